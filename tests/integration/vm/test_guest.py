"""What one real machine is needed for: snapshots (what is in its memory goes on, its disk is as it was then, its clock
is right), and host services where systemd runs. No cluster runs in it; whole labs are in tests/e2e/vm.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra import snapshot, snapshot_libvirt
from infra.hypervisor.kvm import domain_type
from infra.hypervisor.libvirtd import Libvirtd
from infra.images.vm import VmImage, vm_image
from infra.install.ssh import Ssh
from infra.libvirt import access, cloud_init, keys, registry
from infra.libvirt.arguments import bridge, domain_name
from infra.libvirt.registry import Lab
from infra.progress import Steps
from infra.provider import iso
from infra.snapshot import SnapshotError
from infra.topology import LIBVIRT, Topology
from tests.integration.own_libvirtd import own_libvirtd

ROOT = Path(__file__).resolve().parents[3]
ANSWERS_S = 120.0  # after a restore
BOOT_S = 500.0
# Counts in memory alone, and tells on request.
COUNTER = (
    "import time\nn = 0\nwhile True:\n    n += 1\n    open('/run/count', 'w').write(str(n))\n    time.sleep(0.1)\n"
)

SERVICES = """
import json, os, signal, subprocess, time
from pathlib import Path
from infra.hypervisor import services

def ensure(word, identity=""):
    script = 'sleep 1234 & echo "word is $WORD"; exec sleep 4321'
    services.ensure_service(
        "probe", ["/bin/sh", "-c", script], environment={"WORD": word}, netns=None, log=Path("/var/log/probe.log"),
        identity=identity,
    )
    return services.status("probe")

def until(condition):
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)

log = Path("/var/log/probe.log")
first = ensure("a b%$HOME")
unit = services.SYSTEMD / services.unit_name("probe")
until(lambda: log.exists() and log.read_text())
seen = {"log": log.read_text()}
verify = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
seen["verify"] = "".join(line for line in verify.stderr.splitlines() if "probe" in line)
os.kill(first.pid, signal.SIGKILL)
until(lambda: services.status("probe").pid not in (0, first.pid))
second = services.status("probe")
seen["back"] = second.pid not in (0, first.pid)
seen["deaths"] = second.deaths
seen["same"] = ensure("a b%$HOME").pid == second.pid
seen["changed"] = ensure("other").pid != second.pid
third = ensure("this checkout's", "probe 1")
seen["alike"] = ensure("that checkout's", "probe 1").pid == third.pid
seen["another"] = ensure("that checkout's", "probe 2").pid != third.pid
services.stop_service("probe")
seen["stopped"] = services.status("probe")
seen["child"] = subprocess.run(["pgrep", "-f", "sleep 1234"], capture_output=True).returncode == 0
subprocess.run(["pkill", "-f", "sleep 1234"])
seen["left"] = [str(path) for path in services.SYSTEMD.glob("sampan-host-*")]
print(json.dumps(seen))
"""


@dataclass
class Guest:
    lab: Lab
    machine: Ssh

    def run(self, script: str) -> str:
        return self.machine.run(["sh", "-c", script]).decode().strip()

    @property
    def pool(self) -> Path:
        return registry.folder(self.lab.name) / "pool"


@pytest.fixture(scope="module")
def libvirtd() -> Iterator[Libvirtd]:
    topology = topology_of()
    with own_libvirtd((str(topology.node_network_v4), str(topology.node_network_v6))) as made:
        yield made


@pytest.fixture(scope="module")
def guest(libvirtd: Libvirtd) -> Iterator[Guest]:
    image = vm_image(lambda text: None)
    topology = topology_of()
    lab = Lab(topology=topology, project="test", stack="test", folder="/", uri=libvirtd.uri)
    registry.claim(lab)
    try:
        user, machine = keys.ssh_pair(), keys.ssh_pair()
        made = Guest(lab, boot(lab, libvirtd, image, user, machine))
        known = f"{topology.control_plane.address_v4} {machine['ssh.pub'].decode()}\n"
        files = {registry.SSH_KEY: user["ssh"].decode(), registry.KNOWN_HOSTS: known}
        access.write(registry.folder(lab.name), files)
        made.machine.wait(BOOT_S, print)
        made.run(f'nohup python3 -c "{COUNTER}" >/dev/null 2>&1 &')
        yield made
        made.machine.close()
    finally:
        registry.release(lab.name, "test", "test")


def topology_of() -> Topology:
    return Topology(name=f"snapvm{os.getpid()}", backend=LIBVIRT, index=20 + os.getpid() % 10, workers=0)


def boot(lab: Lab, libvirtd: Libvirtd, image: VmImage, user: dict[str, bytes], own: dict[str, bytes]) -> Ssh:
    topology, node = lab.topology, lab.topology.control_plane
    pool = registry.folder(lab.name) / "pool"
    pool.mkdir()
    name = domain_name(lab.name, node.name)
    disk, seed = pool / f"{name}.qcow2", pool / f"{name}-cloud-init.iso"
    backing = ["-F", "qcow2", "-b", str(image.disk), str(disk), "6G"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing], check=True)
    public = {"user": user["ssh.pub"].decode(), "own": own["ssh.pub"].decode()}
    texts = {
        "user-data": cloud_init.user_data(node, public["user"], own["ssh"].decode(), public["own"]),
        "meta-data": cloud_init.meta_data(topology, node),
        "network-config": cloud_init.network_config(topology, node),
    }
    seed.write_bytes(iso.image("cidata", {key: text.encode() for key, text in texts.items()}))
    v4, v6 = topology.gateway
    virsh(
        libvirtd, "net-create", "/dev/stdin",
        stdin=f"""<network><name>{lab.name}</name><forward mode='open'/><bridge name='{bridge(topology)}'/>
        <ip address='{v4}' prefix='24'/><ip family='ipv6' address='{v6}' prefix='64'/></network>""",
    )  # fmt: skip
    virsh(
        libvirtd, "define", "/dev/stdin",
        stdin=f"""<domain type='{domain_type()}'><name>{name}</name><memory unit='MiB'>768</memory><vcpu>1</vcpu>
        <os><type arch='x86_64' machine='pc'>hvm</type><kernel>{image.kernel}</kernel><initrd>{image.initrd}</initrd>
        <cmdline>{image.cmdline}</cmdline></os><features><acpi/></features><cpu mode='maximum'/><devices>
        <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>
        <target dev='vda' bus='virtio'/></disk>
        <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{seed}'/>
        <target dev='hdd' bus='ide'/><readonly/></disk>
        <interface type='network'><mac address='{node.mac}'/><source network='{lab.name}'/><model type='virtio'/>
        </interface><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
        <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
        <serial type='file'><source path='{pool}/console.log'/></serial></devices></domain>""",
    )  # fmt: skip
    virsh(libvirtd, "start", name)
    return Ssh(node.name, node.address_v4, key=user["ssh"], host_keys=(public["own"],))


def virsh(libvirtd: Libvirtd, *arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["virsh", "--quiet", "--connect", libvirtd.uri, *arguments],
        input=stdin, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"virsh {arguments}: {done.stderr}"
    return done.stdout


def test_host_services_are_units_where_systemd_runs(guest: Guest) -> None:
    """The code of infra/hypervisor/services.py, in the guest."""
    parts = ["infra/__init__.py", "infra/hypervisor", "infra/local/__init__.py", "infra/local/syscalls.py"]
    tar = subprocess.run(["tar", "-c", "--exclude=__pycache__", *parts], cwd=ROOT, capture_output=True, check=True)
    guest.machine.run(["sh", "-c", "mkdir -p /tmp/services && tar -x -C /tmp/services"], stdin=tar.stdout)
    seen = json.loads(guest.machine.run(["sh", "-c", "cd /tmp/services && python3 -"], stdin=SERVICES.encode()))
    assert seen.pop("verify") == ""
    assert seen == {
        "log": "word is a b%$HOME\n",
        "back": True,
        "deaths": 1,
        "same": True,
        "changed": True,
        "alike": True,
        "another": True,
        "child": True,
        "stopped": None,
        "left": [],
    }


def test_it_goes_on_from_the_saved_moment(guest: Guest, libvirtd: Libvirtd) -> None:
    loose = guest.pool / "vol-loose"
    loose.write_text("then")
    boot_id = guest.run("echo then > /root/then; cat /proc/sys/kernel/random/boot_id")
    made = snapshot_libvirt.save(guest.lab.name, "first", Steps())
    saved_at = time.time()
    assert made.paused_s < 60
    count = int(guest.run("cat /run/count"))  # it runs on
    guest.run("echo since > /root/since; rm /root/then; kill $(cat /run/counter); sync")
    loose.write_text("since")
    (guest.pool / "vol-since").write_text("since")
    guest.machine.close()
    while time.time() < saved_at + 10:  # so that a clock that stood is seen
        time.sleep(0.2)
    began = time.monotonic()
    snapshot_libvirt.restore(guest.lab.name, "first", Steps())
    took_s = time.monotonic() - began
    guest.machine.wait(ANSWERS_S, print)
    asked = time.time()
    seen = guest.run("cat /proc/sys/kernel/random/boot_id; date +%s.%N; cat /run/count; echo; ls /root")
    print(f"restored in {took_s:.1f} s: {seen.split()}")
    same_boot, clock, counted, *files = seen.split()
    assert same_boot == boot_id
    assert asked - 2 < float(clock) < time.time() + 2
    assert abs(int(counted) - count) < 300
    assert "then" in files
    assert "since" not in files
    before = int(guest.run("cat /run/count"))
    assert int(guest.run("sleep 2; cat /run/count")) > before
    assert loose.read_text() == "then"
    assert not (guest.pool / "vol-since").exists()
    name = domain_name(guest.lab.name, "control-plane-1")
    assert f"{guest.pool}/{name}.qcow2" in virsh(libvirtd, "domblklist", name)
    assert not [file.name for file in guest.pool.iterdir() if file.name.startswith(".")]


def test_without_an_agent_the_clock_is_set_over_ssh(guest: Guest) -> None:
    guest.run("systemctl stop qemu-guest-agent")
    snapshot_libvirt.save(guest.lab.name, "second", Steps())
    saved_at = time.time()
    while time.time() < saved_at + 5:
        time.sleep(0.2)
    snapshot_libvirt.restore(guest.lab.name, "second", Steps())
    guest.machine.wait(ANSWERS_S, print)
    asked = time.time()
    assert asked - 2 < float(guest.run("date +%s.%N")) < time.time() + 2


def test_a_lab_of_another_shape_is_refused(guest: Guest) -> None:
    wider = Topology.from_data({**guest.lab.topology.to_data(), "workers": 1})
    registry.claim(Lab(**{**vars(guest.lab), "topology": wider}))
    with pytest.raises(SnapshotError, match=r"no machine .*-worker-1"):
        snapshot_libvirt.restore(guest.lab.name, "second", Steps())
    registry.claim(guest.lab)
    assert [one.name for one in snapshot.listed(guest.lab.name)] == ["first", "second"]
