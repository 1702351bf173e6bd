"""The provider and a guest that answers: addresses, devices that come and go while it runs, a shutdown of its own.

The guests of tests/integration/provider have no system; what takes two sides is shown here, with one real guest.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.hypervisor.kvm import domain_type
from infra.hypervisor.libvirtd import Libvirtd
from infra.images.vm import vm_image
from infra.provider.binding import connect, libvirt
from tests.integration.own_libvirtd import own_libvirtd
from tests.integration.provider.calls.small_engine import Provider, Resource

MEMORY_MIB = 640
APPEARS_TIMEOUT_S = 240
SHUTDOWN_TIMEOUT_S = "180"  # a guest without KVM takes its time
FIXED = "10.96.1.77"
USER_DATA = "#cloud-config\nhostname: named-by-cloud-init\n"


@pytest.fixture(scope="module")
def libvirtd() -> Iterator[Libvirtd]:
    with own_libvirtd() as made:
        yield made


def eventually(look: Callable[[], Any]) -> Any:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + APPEARS_TIMEOUT_S
    while True:
        try:
            if found := look():
                return found
        except libvirt.libvirtError:
            pass  # the agent is not up yet
        assert time.monotonic() < deadline, "it did not appear"
        time.sleep(0.5)


def run_of(connection: Any) -> int:
    """libvirt's number of this run of the guest; an object of the binding keeps the one it was made with."""
    return int(connection.lookupByName("guest").ID())


@pytest.mark.timeout(1500)
def test_a_guest_that_answers(libvirtd: Libvirtd, tmp_path: Path) -> None:
    image = vm_image(print)
    folder = libvirtd.folder / "files"
    folder.mkdir()
    backing = ["-F", "qcow2", "-b", str(image.disk), str(folder / "root.qcow2")]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing], check=True)
    provider = Provider(libvirtd.uri, tmp_path, shutdown_timeout_s=SHUTDOWN_TIMEOUT_S)
    connection = connect(libvirtd.uri)
    network, pool, seed, extra, domain = (
        Resource(provider, kind, name)
        for kind, name in (
            *(("Network", "net"), ("Pool", "pool"), ("CloudInitDisk", "seed"), ("Volume", "extra")),
            ("Domain", "guest"),
        )
    )
    try:
        network.up({"name": "net", "mode": "none", "addresses": ["10.96.1.0/24"]})
        pool.up({"name": "pool", "type": "dir", "target": {"path": str(folder / "pool")}})
        seed.up({"name": "seed.iso", "pool": "pool", "userData": USER_DATA, "metaData": "instance-id: one\n"})
        extra.up({"name": "extra", "pool": "pool", "size": 8 << 20})
        plug = {"networkId": network.id, "waitForLease": True, "addresses": [FIXED], "hostname": "guest"}
        root = {"file": str(folder / "root.qcow2")}
        inputs: dict[str, Any] = {
            "name": "guest",
            "type": domain_type(),
            "cpu": {"mode": "maximum"},
            "memory": MEMORY_MIB,
            "qemuAgent": True,
            "kernel": str(image.kernel),
            "initrd": str(image.initrd),
            "cmdlines": [{"_": image.cmdline}],
            "cloudinit": seed.id,
            "disks": [root],
            "networkInterfaces": [plug],
            "consoles": [{"type": "file", "targetPort": "0", "sourcePath": str(folder / "console.log")}],
        }
        domain.timeout_s = APPEARS_TIMEOUT_S
        domain.up(inputs)
        there = connection.lookupByName("guest")
        assert FIXED in domain.outputs["networkInterfaces"][0]["addresses"]

        def hostname() -> str:
            return str(there.guestInfo(libvirt.VIR_DOMAIN_GUEST_INFO_HOSTNAME, 0).get("hostname", ""))

        def macs() -> set[str]:
            source = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
            return {each["hwaddr"] for each in there.interfaceAddresses(source, 0).values()}

        eventually(lambda: hostname() == "named-by-cloud-init")  # the image of ours is read
        run, second = run_of(connection), {"networkId": network.id, "mac": "52:54:00:00:0a:02"}
        more = {**inputs, "networkInterfaces": [plug, second], "disks": [root, {"volumeId": extra.id}]}
        assert domain.up(more) == "update"
        eventually(lambda: second["mac"] in macs())
        assert run_of(connection) == run
        provider.words.lines.clear()
        assert domain.up(inputs) == "update"
        assert run_of(connection) == run, provider.words.lines  # the guest let go of both, so nothing was restarted
        assert second["mac"] not in macs()
        assert [line for line in provider.words.lines if line.endswith("is unplugged")]
        assert domain.up({**inputs, "memory": MEMORY_MIB + 64}) == "update"
        assert run_of(connection) != run
        assert not [line for line in provider.words.lines if "switched off" in line]  # it shut down by itself
        assert eventually(hostname) == "named-by-cloud-init"
    finally:
        for resource in (domain, extra, seed, pool, network):
            resource.delete()
        connection.close()
        provider.close()
