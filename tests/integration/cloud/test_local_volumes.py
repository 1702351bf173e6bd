"""Disks of a local lab: real files and loop devices, and nodes that are folders where their root would be."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from orchestrator.cloud import loopdevices
from orchestrator.cloud.local_volumes import LocalVolumes
from orchestrator.cloud.provider import CloudError

MIB = 2**20
DISK = "vol-0123456789abcdef"
PIDS = {"a": 1, "b": 2, "off": 0}


class Host:
    """Processes 1 and 2, each with a root of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for pid in (1, 2):
            (folder / "proc" / str(pid) / "root/dev").mkdir(parents=True)
        self.pids: Mapping[str, int] = dict(PIDS)
        self.disks = self.controller()

    def controller(self) -> LocalVolumes:
        async def pids() -> Mapping[str, int]:
            return self.pids

        return LocalVolumes(self.folder / "volumes", pids, self.folder / "proc")

    def device(self, node: str) -> Path:
        return self.folder / "proc" / str(PIDS[node]) / "root/dev/disk/by-id" / f"virtio-{DISK}"

    def size(self, node: str) -> int:
        return int(
            subprocess.run(["blockdev", "--getsize64", self.device(node)], capture_output=True, check=True).stdout
        )


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    yield Host(tmp_path)
    loopdevices.release_below(tmp_path / "volumes")


async def test_a_disk_is_a_device_of_the_node_that_has_it(host: Host) -> None:
    made = await host.disks.create(DISK, 64 * MIB, "a")
    assert made.size_bytes == 64 * MIB
    assert (host.folder / "volumes" / DISK).stat().st_blocks == 0  # nothing is written before something is
    assert await host.disks.create(DISK, 128 * MIB, "a") == made
    await host.disks.attach(DISK, "a")
    await host.disks.attach(DISK, "a")
    assert stat.S_ISBLK(host.device("a").stat().st_mode)
    assert host.size("a") == 64 * MIB
    assert await host.disks.attached("a") == {DISK}
    assert [disk.attached_to for disk in await host.disks.all()] == [("a",)]

    assert await host.disks.resize(DISK, 96 * MIB) == 96 * MIB
    assert host.size("a") == 96 * MIB
    assert await host.disks.resize(DISK, MIB) == 96 * MIB

    with pytest.raises(CloudError, match="is attached to node a"):
        await host.disks.attach(DISK, "b")
    await host.disks.detach(DISK, "b")  # it has not got it, and the other keeps it
    assert await host.disks.attached("a") == {DISK}
    await host.disks.detach(DISK, "a")
    assert not host.device("a").exists()
    again = host.controller()
    await again.attach(DISK, "b")
    assert host.size("b") == 96 * MIB
    await again.detach(DISK, "b")
    await again.delete(DISK)
    await again.delete(DISK)
    assert await again.all() == ()
    assert loopdevices.of_file(host.folder / "volumes" / DISK) is None


async def test_what_is_mounted_is_not_taken_away(host: Host, tmp_path: Path) -> None:
    await host.disks.create(DISK, 16 * MIB, "a")
    await host.disks.attach(DISK, "a")
    subprocess.run(["mkfs.ext4", "-q", host.device("a")], check=True)
    place = tmp_path / "mounted"
    place.mkdir()
    subprocess.run(["mount", host.device("a"), place], check=True)
    try:
        with pytest.raises(CloudError, match="still mounted on node a"):
            await host.disks.detach(DISK, "a")
        with pytest.raises(CloudError, match="still mounted"):
            await host.disks.delete(DISK)
        assert await host.disks.attached("a") == {DISK}
    finally:
        subprocess.run(["umount", place], check=True)
    await host.disks.detach(DISK, "a")


async def test_a_node_that_was_off_has_nothing_and_is_given_it_again(host: Host) -> None:
    await host.disks.create(DISK, 16 * MIB, "a")
    with pytest.raises(CloudError, match="node off is off, or gone"):
        await host.disks.attach(DISK, "off")
    await host.disks.attach(DISK, "a")
    host.device("a").unlink()
    assert await host.disks.attached("a") == frozenset()
    assert await host.disks.attached("off") == frozenset()
    await host.disks.attach(DISK, "a")
    host.pids = {"b": 2}  # its node is no more, and nothing that it had is mounted
    await host.disks.detach(DISK, "a")
    await host.disks.attach(DISK, "b")
    assert await host.disks.attached("b") == {DISK}


async def test_a_device_of_another_file_is_not_the_disk(host: Host) -> None:
    """As after a restore of the lab's folder: files of the same names, and devices of those that were."""
    await host.disks.create(DISK, 16 * MIB, "a")
    await host.disks.attach(DISK, "a")
    number = loopdevices.of_file(host.folder / "volumes" / DISK)
    assert number is not None
    (host.folder / "volumes" / DISK).unlink()
    try:
        await host.disks.create(DISK, 16 * MIB, "a")
        assert await host.disks.attached("a") == frozenset()
        await host.disks.attach(DISK, "a")
        assert os.minor(host.device("a").stat().st_rdev) != number
    finally:
        loopdevices.detach(number)


async def test_what_the_host_cannot_hold_is_refused(host: Host) -> None:
    with pytest.raises(CloudError, match=r"no space for a disk of \d+ bytes: .* has \d+ left"):
        await host.disks.create(DISK, 2**60, "")
    with pytest.raises(CloudError, match="does not exist"):
        await host.disks.attach(DISK, "a")
    with pytest.raises(CloudError, match="does not exist"):
        await host.disks.resize(DISK, MIB)


async def test_a_host_without_loop_devices_is_told_of(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    await host.disks.create(DISK, 16 * MIB, "a")
    monkeypatch.setattr(loopdevices, "CONTROL", Path("/dev/null"))
    with pytest.raises(CloudError, match=r"this host gives no loop devices \(Inappropriate ioctl for device\)"):
        await host.disks.attach(DISK, "a")
