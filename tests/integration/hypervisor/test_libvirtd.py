"""A libvirtd of our own with real networks, pools and guests; what survives its death; that nothing is left of it."""

from __future__ import annotations

import concurrent.futures
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import dnslib
import pytest

from infra.hypervisor import link, processes, services
from infra.hypervisor.errors import HypervisorError
from infra.hypervisor.libvirtd import Libvirtd
from infra.local import syscalls
from tests.integration.hypervisor.traces import eventually, leftovers

# A boot sector that writes `x` to the serial line for ever: mov dx,0x3f8; 1: mov al,'x'; out dx,al; jmp 1b
CHATTERBOX = bytes.fromhex("baf803b078eeebfb").ljust(510, b"\0") + b"\x55\xaa"


def virsh(libvirtd: Libvirtd, *arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["virsh", "--quiet", "--connect", libvirtd.uri, *arguments],
        input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"virsh {arguments}: {done.stderr}"
    return done.stdout


def make_network(libvirtd: Libvirtd, name: str, mode: str = "open") -> tuple[str, str]:
    """A started network with DHCP and a DNS name; its addresses."""
    v4, v6 = (ip_network(network) for network in libvirtd.networks)
    virsh(
        libvirtd, "net-define", "/dev/stdin",
        stdin=f"""<network><name>{name}</name><forward mode='{mode}'/><bridge name='{name}0' stp='off'/>
        <dns><host ip='{v4[10]}'><hostname>node-1</hostname></host></dns>
        <ip address='{v4[1]}' prefix='{v4.prefixlen}'><dhcp><range start='{v4[10]}' end='{v4[20]}'/></dhcp></ip>
        <ip family='ipv6' address='{v6[1]}' prefix='{v6.prefixlen}'/></network>""",
    )  # fmt: skip
    virsh(libvirtd, "net-start", name)
    return str(v4[1]), str(v6[1])


def make_guest(libvirtd: Libvirtd, name: str, network: str) -> Path:
    """A running guest from a volume of a pool; where its serial line goes."""
    pool = libvirtd.folder.with_name(f"{libvirtd.folder.name}-pool")
    pool.mkdir(exist_ok=True)
    if "pool" not in virsh(libvirtd, "pool-list", "--name"):
        virsh(libvirtd, "pool-create-as", "pool", "dir", "--target", str(pool))
    virsh(libvirtd, "vol-create-as", "pool", f"{name}.img", "1M", "--format", "raw")
    with (pool / f"{name}.img").open("r+b") as disk:
        disk.write(CHATTERBOX)
    serial = pool / f"{name}.serial"
    virsh(
        libvirtd, "define", "/dev/stdin",
        stdin=f"""<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>
        <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
        <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{pool}/{name}.img'/>
        <target dev='hda' bus='ide'/></disk>
        <interface type='network'><source network='{network}'/><model type='virtio'/></interface>
        <serial type='file'><source path='{serial}'/></serial></devices></domain>""",
    )  # fmt: skip
    virsh(libvirtd, "start", name)
    return serial


class Neighbour:
    """A machine on a guests' network: a network namespace with a cable to the bridge, and a socket in it."""

    def __init__(self, libvirtd: Libvirtd, bridge: str) -> None:
        self.name = f"nb-{libvirtd.identity}"
        v4, v6 = (ip_network(network) for network in libvirtd.networks)
        run("ip", "netns", "add", self.name)
        run(
            *("ip", "-netns", libvirtd.netns, "link", "add", "nb0", "master", bridge, "type", "veth"),
            *("peer", "name", "eth0", "netns", self.name),
        )
        run("ip", "-netns", libvirtd.netns, "link", "set", "nb0", "up")
        run("ip", "-netns", self.name, "link", "set", "eth0", "up")
        run("ip", "-netns", self.name, "address", "add", f"{v4[99]}/24", "dev", "eth0")
        run("ip", "-netns", self.name, "address", "add", f"{v6[99]}/64", "dev", "eth0", "nodad")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            self.client = pool.submit(self._socket).result()

    def _socket(self) -> socket.socket:
        """In a thread of its own, which is in that namespace from then on, and ends."""
        with Path("/run/netns", self.name).open() as place:
            syscalls.setns(place.fileno(), syscalls.CLONE_NEWNET)
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)  # of both families
        made.settimeout(5)
        return made

    def ask_dns(self, server: str, name: str) -> list[str]:
        address = server if ":" in server else f"::ffff:{server}"
        self.client.sendto(dnslib.DNSRecord.question(name).pack(), (address, 53))
        return [str(answer.rdata) for answer in dnslib.DNSRecord.parse(self.client.recv(4096)).rr]

    def remove(self) -> None:
        self.client.close()
        run("ip", "netns", "delete", self.name)


@contextmanager
def neighbour(libvirtd: Libvirtd, bridge: str) -> Iterator[Neighbour]:
    made = Neighbour(libvirtd, bridge)
    try:
        yield made
    finally:
        made.remove()


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def is_reached(address: str) -> bool:
    """Whether the host gets an answer from there: that nobody listens."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
        client.settimeout(5)
        return client.connect_ex((address, 9)) == errno.ECONNREFUSED


def is_lively(serial: Path) -> bool:
    before = serial.stat().st_size if serial.exists() else 0
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        if serial.exists() and serial.stat().st_size > before:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def libvirtd(new_libvirtd: Callable[..., Libvirtd]) -> Iterator[Libvirtd]:
    made = new_libvirtd()
    made.start()
    yield made


def test_it_answers_the_host_at_its_own_socket(libvirtd: Libvirtd) -> None:
    assert virsh(libvirtd, "uri").strip() == libvirtd.uri
    assert "<domain type='qemu'/>" in virsh(libvirtd, "capabilities")


def test_its_socket_is_roots_alone(libvirtd: Libvirtd) -> None:
    assert libvirtd.socket.stat().st_mode & 0o777 == 0o700
    assert libvirtd.socket.stat().st_uid == 0


def test_started_again_it_is_left_alone(libvirtd: Libvirtd) -> None:
    before = services.status(libvirtd.service)
    libvirtd.start()
    assert services.status(libvirtd.service) == before


def test_the_command_of_another_checkout_leaves_it_alone(libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the updates of one checkout's labs would break off when a command of another one starts."""
    before = services.status(libvirtd.service)
    monkeypatch.setattr(sys, "executable", "/another/checkout/.venv/bin/python")
    libvirtd.start()
    assert services.status(libvirtd.service) == before


def test_disks_mounted_since_it_was_started_are_seen_at_the_next_start(libvirtd: Libvirtd, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path / "data")], check=True)
    try:
        before = services.status(libvirtd.service)
        libvirtd.start()
        assert services.status(libvirtd.service) == before  # the same process, with its guests
        virsh(libvirtd, "pool-create-as", "late", "dir", "--target", str(tmp_path / "data"))
        virsh(libvirtd, "vol-create-as", "late", "disk", "100k")
        assert (tmp_path / "data/disk").stat().st_size == 100 << 10
        assert "1.00 MiB" in virsh(libvirtd, "pool-info", "late")
        virsh(libvirtd, "pool-destroy", "late")
    finally:
        subprocess.run(["umount", str(tmp_path / "data")], check=True)


def test_kvm_is_hidden_from_it_and_nothing_else_of_dev(libvirtd: Libvirtd) -> None:
    seen = services.status(libvirtd.service)
    assert seen is not None
    inside = {entry.name for entry in Path(f"/proc/{seen.pid}/root/dev").iterdir()}
    outside = {entry.name for entry in Path("/dev").iterdir()}
    assert outside - inside <= {"kvm", "log", "core"}
    assert {"null", "urandom", "pts", "net"} <= inside
    assert "kvm" not in inside


def test_its_networks_are_not_on_the_host_but_answer_it(libvirtd: Libvirtd) -> None:
    addresses = make_network(libvirtd, "reach")
    assert not Path("/sys/class/net/reach0").exists()
    v4, _ = (ip_network(network) for network in libvirtd.networks)
    with neighbour(libvirtd, "reach0") as near:
        for address in addresses:
            assert is_reached(address)
            assert near.ask_dns(address, "node-1") == [str(v4[10])]
    virsh(libvirtd, "net-destroy", "reach")


def test_guests_outlive_it_and_are_found_again(libvirtd: Libvirtd) -> None:
    (address, _) = make_network(libvirtd, "last")
    serial = make_guest(libvirtd, "chatterbox", "last")
    eventually(lambda: is_lively(serial), "the guest does not boot")
    guests = qemus(libvirtd)
    number = virsh(libvirtd, "domid", "chatterbox")
    libvirtd.restart()
    assert qemus(libvirtd) == guests
    assert virsh(libvirtd, "domid", "chatterbox") == number
    libvirtd.stop()
    assert not libvirtd.is_running()
    assert is_lively(serial)
    with neighbour(libvirtd, "last0") as near:
        assert near.ask_dns(address, "node-1")  # dnsmasq as well
    libvirtd.start()
    assert qemus(libvirtd) == guests
    virsh(libvirtd, "suspend", "chatterbox")
    eventually(lambda: not is_lively(serial), "the guest is not paused")
    virsh(libvirtd, "resume", "chatterbox")
    eventually(lambda: is_lively(serial), "the guest is not resumed")
    virsh(libvirtd, "destroy", "chatterbox")
    eventually(lambda: not qemus(libvirtd), "the guest's process is still there")
    virsh(libvirtd, "net-destroy", "last")


def test_what_it_starts_again_it_can_still_do(libvirtd: Libvirtd) -> None:
    """Networks and guests made after a restart are as good as those before it."""
    libvirtd.restart()
    make_network(libvirtd, "again", mode="nat")
    serial = make_guest(libvirtd, "second", "again")
    eventually(lambda: is_lively(serial), "the guest does not boot")
    virsh(libvirtd, "destroy", "second")


def qemus(libvirtd: Libvirtd) -> set[int]:
    inside = processes.in_netns(Path("/run/netns", libvirtd.netns))
    return {one for one in inside if b"qemu-system" in Path(f"/proc/{one}/cmdline").read_bytes()}


def test_two_are_side_by_side_with_guests_of_one_name(new_libvirtd: Callable[..., Libvirtd]) -> None:
    pair = [new_libvirtd(), new_libvirtd()]
    starts = [threading.Thread(target=one.start) for one in pair]
    for thread in starts:
        thread.start()
    for thread in starts:
        thread.join()
    serials = []
    for one in pair:
        make_network(one, "same")
        serials.append(make_guest(one, "same", "same"))
    for serial in serials:
        eventually(lambda serial=serial: is_lively(serial), f"{serial} stays silent")  # type: ignore[misc]
    virsh(pair[0], "destroy", "same")
    assert "running" in virsh(pair[1], "domstate", "same")
    pair[0].remove()
    assert is_lively(serials[1])
    assert len(qemus(pair[1])) == 1


def test_removed_with_a_guest_running_nothing_is_left(new_libvirtd: Callable[..., Libvirtd]) -> None:
    one = new_libvirtd()
    one.start()
    number = json.loads((one.folder / "link.json").read_text())["number"]
    make_network(one, "gone")
    make_guest(one, "gone", "gone")
    assert len(leftovers(one, number)) > 5  # it sees what is there
    one.remove()
    eventually(lambda: not leftovers(one, number), "something is left")
    assert leftovers(one, number) == []
    one.remove()  # again: no error


def test_what_others_keep_in_its_folder_stays(new_libvirtd: Callable[..., Libvirtd]) -> None:
    """The shared one's has Pulumi's state."""
    one = new_libvirtd()
    one.start()
    (one.folder / "state").mkdir()
    (one.folder / "state/stack.json").write_text("{}")
    one.remove()
    assert sorted(path.name for path in one.folder.rglob("*")) == ["stack.json", "state"]


def test_a_half_made_one_is_removed(new_libvirtd: Callable[..., Libvirtd]) -> None:
    """Killed between two steps: the network namespace is there, the cable is not."""
    one = new_libvirtd()
    subprocess.run(["ip", "netns", "add", one.netns], check=True)
    one.remove()
    assert not Path("/run/netns", one.netns).exists()


def test_after_a_reboot_another_one_may_have_its_number(new_libvirtd: Callable[..., Libvirtd]) -> None:
    """Files stay, namespaces and cables go; where /run is on a disk, the namespace's file stays too."""
    first, second = new_libvirtd(), new_libvirtd()
    first.start()
    before = json.loads((first.folder / "link.json").read_text())
    first.stop()
    processes.end(processes.in_netns(Path("/run/netns", first.netns)), timeout_s=10)
    run("ip", "netns", "delete", first.netns)
    eventually(lambda: not Path(f"/sys/class/net/smpvm{before['number']}").exists(), "the cable is still there")
    Path("/run/netns", first.netns).touch()
    second.start()  # takes the number if it is the lowest free one
    taken = json.loads((second.folder / "link.json").read_text())["number"]
    first.start()
    after = json.loads((first.folder / "link.json").read_text())["number"]
    assert after != taken
    v4, _ = make_network(second, "mine")
    assert is_reached(v4)
    first.remove()
    assert is_reached(v4), "what is the other's was removed"


def test_a_cable_that_is_half_made_is_made_anew(new_libvirtd: Callable[..., Libvirtd]) -> None:
    one = new_libvirtd()
    one.start()
    run("ip", "-netns", one.netns, "-6", "route", "delete", "default")  # where it was killed
    one.start()
    v4, _ = make_network(one, "whole")
    cable = link.load(one.folder / "link.json")
    assert cable is not None and link.is_up(cable)
    for address in (v4, *cable.ends[1]):
        assert is_reached(address)


def test_a_second_command_waits_for_the_first(new_libvirtd: Callable[..., Libvirtd]) -> None:
    one = new_libvirtd()
    errors: list[Any] = []

    def start() -> None:
        try:
            one.start()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    seen = services.status(one.service)
    assert seen is not None and seen.deaths == 0


def test_networks_that_another_one_has_are_refused(libvirtd: Libvirtd, new_libvirtd: Callable[..., Libvirtd]) -> None:
    one = Libvirtd(new_libvirtd().folder, libvirtd.networks)
    with pytest.raises(HypervisorError) as raised:
        one.start()
    assert libvirtd.networks[0] in raised.value.cause
    assert "already" in raised.value.cause
    assert not Path("/run/netns", one.netns).exists()


def test_a_libvirtd_that_cannot_start_says_what_its_log_says(new_libvirtd: Callable[..., Libvirtd]) -> None:
    one = new_libvirtd()
    (one.folder / "etc").mkdir()
    (one.folder / "etc/libvirtd.conf").mkdir()  # where its configuration file belongs
    with pytest.raises((HypervisorError, OSError), match=r"libvirtd\.conf"):
        one.start()


def test_a_folder_too_deep_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HypervisorError, match="107 bytes"):
        Libvirtd(tmp_path / ("x" * 100)).start()


def test_a_killed_supervisor_takes_libvirtd_along_and_start_brings_both_back(libvirtd: Libvirtd) -> None:
    seen = services.status(libvirtd.service)
    assert seen is not None
    os.kill(seen.supervisor, signal.SIGKILL)
    eventually(lambda: not libvirtd.is_running(), "libvirtd outlives its supervisor")
    libvirtd.start()
    assert "reach" in virsh(libvirtd, "net-list", "--name", "--all")
