"""A machine that somebody has: a guest of the VM image in a network of its own, reached by SSH, and no lab of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.hypervisor import host
from infra.hypervisor.kvm import domain_type
from infra.hypervisor.libvirtd import Libvirtd
from infra.images.vm import vm_image
from infra.install.machine import SERVER_USER_ID
from infra.install.ssh import Ssh
from infra.libvirt import arguments, cloud_init, keys
from infra.provider import iso
from infra.topology import LIBVIRT, Node, Topology

BOOT_S = 900.0  # beside other work, without KVM
MEMORY_MIB = 1280

NETWORK = """\
<network><name>own</name><forward mode='open'/><bridge name='own0'/>
<ip address='{v4}' prefix='24'/><ip family='ipv6' address='{v6}' prefix='64'/></network>
"""
DOMAIN = """\
<domain type='{type}'><name>{name}</name><memory unit='MiB'>{memory}</memory><vcpu>{vcpus}</vcpu>
<os><type machine='pc'>hvm</type><kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>{cmdline}</cmdline></os>
<features><acpi/></features><cpu mode='maximum'/><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='unsafe'/><source file='{stem}.qcow2'/>
<target dev='vda' bus='virtio'/></disk>
<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{stem}.iso'/>
<target dev='hdd' bus='ide'/><readonly/></disk>
<interface type='network'><mac address='{mac}'/><source network='own'/><model type='virtio'/></interface>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
<serial type='file'><source path='{stem}.log'/></serial></devices></domain>
"""


@dataclass
class Own:
    ssh: Ssh
    key: bytes
    folder: Path


@dataclass(frozen=True)
class Site:
    """A libvirtd, and a network on it, for guests that are no lab's."""

    libvirtd: Libvirtd
    place: Topology
    folder: Path

    def start(self, node: Node, *, vcpus: int = 1, user: Mapping[str, bytes] | None = None) -> tuple[Ssh, bytes]:
        """Power it on: a connection that is not made yet, and its key: that of the `user`, one of its own where none is
        said. One processor as a rule: without KVM two of them may crash a kernel that patches itself."""
        image, stem = vm_image(lambda text: None), self.folder / node.name
        backing = ["-F", "qcow2", "-b", str(image.disk), f"{stem}.qcow2", "8G"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing], check=True)
        user, own = user or keys.ssh_pair(), keys.ssh_pair()
        seed = {
            "user-data": cloud_init.user_data(
                node, user["ssh.pub"].decode(), own["ssh"].decode(), own["ssh.pub"].decode()
            ),
            "meta-data": cloud_init.meta_data(self.place, node),
            "network-config": cloud_init.network_config(self.place, node),
        }
        content = iso.image("cidata", {name: text.encode() for name, text in seed.items()})
        Path(f"{stem}.iso").write_bytes(content)
        kind = domain_type()
        domain = DOMAIN.format(
            type=kind, name=node.name, memory=MEMORY_MIB, vcpus=vcpus, stem=stem, mac=node.mac, kernel=image.kernel,
            initrd=image.initrd, cmdline=" ".join(arguments.kernel_words(image.cmdline, kind)),
        )  # fmt: skip
        virsh(self.libvirtd, "create", "/dev/stdin", stdin=domain)
        ssh = Ssh(node.name, node.address_v4, key=user["ssh"], host_keys=(own["ssh.pub"].decode(),))
        return ssh, user["ssh"]


@contextmanager
def site(workers: int = 0) -> Iterator[Site]:
    host.install_missing(print)
    place = Topology(name="own", backend=LIBVIRT, index=10 + os.getpid() % 10, workers=workers)
    folder = Path(tempfile.mkdtemp(prefix="sampan-hv-", dir="/var/lib"))
    libvirtd = Libvirtd(folder, (str(place.node_network_v4), str(place.node_network_v6)))
    try:
        libvirtd.start()
        v4, v6 = place.gateway
        virsh(libvirtd, "net-create", "/dev/stdin", stdin=NETWORK.format(v4=v4, v6=v6))
        yield Site(libvirtd, place, folder)
    finally:
        libvirtd.remove()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def booted() -> Iterator[Own]:
    with site() as made:
        ssh, key = made.start(made.place.control_plane)
        ssh.wait(BOOT_S, print)
        yield Own(ssh, key, made.folder)
        ssh.close()


def left(run: Callable[[str], str], user: int) -> dict[str, str]:
    """What a lab left on a machine of its user, by what it is. `run`: a script there; `user`: the node's first id."""
    ours = f"$1 >= {user} && $1 < {user} + 4194304 || $1 == {SERVER_USER_ID}"
    checks = {
        "processes of its users": f"ps -eo uid= | awk '{ours}'",
        "units": "systemctl list-units --all --no-legend 'sampan*'; ls /etc/systemd/system | grep sampan || true",
        "mounts": "grep sampan /proc/self/mounts || true",
        "rules": "nft list tables",
        "links": "ls /sys/class/net | grep -v -x -e lo -e eth0 || true",
        "routes": "ip route show proto 83; ip -6 route show proto 83",
        "files": "ls -d /etc/sampan /opt/sampan /var/lib/sampan /var/lib/containers/sampan 2>/dev/null || true",
        "users": "grep sampan /etc/passwd /etc/group /etc/shadow /etc/subuid /etc/subgid || true",
    }
    return {name: said for name, script in checks.items() if (said := run(script))}


def virsh(libvirtd: Libvirtd, *arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["virsh", "--quiet", "--connect", libvirtd.uri, *arguments],
        input=stdin, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"virsh {arguments}: {done.stderr}"
    return done.stdout
