"""pulumi-resource-libvirt: networks, pools, volumes, cloud-init disks and domains, made by Pulumi over libvirt-python.

It stands behind the unchanged `pulumi_libvirt` SDK (0.5.4): same tokens, same properties. `server.py` speaks the
protocol, each kind of resource is one file, and what it asks of libvirt is XML built by a pure function (`*_xml.py`).

House rules: `binding.py` alone imports libvirt; nothing that this provider did not make is ever changed or removed;
whatever a program asks is honoured or refused with the resource, the property, the value and the rule.
"""

import os

# libvirt forks to reach another machine over SSH; gRPC would complain about it on standard error, which Pulumi shows.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
