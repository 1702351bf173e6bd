"""A pod's addresses: asked of the porter when its sandbox is new, and remembered beside it for the next kubelet.

The porter runs the CNI plugins on the network namespace of the sandbox's process. Pods on the host network have the
node's addresses. Errors: PorterFailure.
"""

from __future__ import annotations

import orjson

from orchestrator.api.meta import Object
from orchestrator.kubelet import etcfiles, podspec
from orchestrator.kubelet.dirs import PodDirs
from orchestrator.kubelet.porter import HostPort, PodKey, Porter
from orchestrator.kubelet.runtime.interface import Sandbox


async def attach(porter: Porter, key: PodKey, pod: Object, sandbox: Sandbox, dirs: PodDirs) -> tuple[str, ...]:
    ports = tuple(
        HostPort(number, container_port, protocol, address)
        for address, protocol, number, container_port in podspec.host_ports(pod)
    )
    addresses = await porter.attach(key, sandbox.pid, ports)
    dirs.root.mkdir(parents=True, exist_ok=True)
    dirs.network.write_bytes(orjson.dumps({"sandbox": sandbox.id, "addresses": addresses}))
    return addresses


def remembered(sandbox: Sandbox, dirs: PodDirs) -> tuple[str, ...]:
    """The addresses of a sandbox that runs already, () where they are not known."""
    try:
        kept = orjson.loads(dirs.network.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return ()
    return tuple(kept["addresses"]) if kept.get("sandbox") == sandbox.id else ()


def write_files(
    pod: Object, addresses: tuple[str, ...], dirs: PodDirs, resolver: etcfiles.Resolver, node_hosts: str, domain: str
) -> None:
    """/etc/hosts and /etc/resolv.conf of the pod's containers."""
    dirs.root.mkdir(parents=True, exist_ok=True)
    if podspec.is_host_network(pod):
        dirs.hosts.write_text(etcfiles.host_network_hosts(pod, node_hosts))
    else:
        dirs.hosts.write_text(etcfiles.hosts(pod, addresses, domain))
    dirs.resolv_conf.write_text(resolver.text())
