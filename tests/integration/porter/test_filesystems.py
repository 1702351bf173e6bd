"""File systems on real disks (loop devices): made once, repaired, grown, and seen with the ids of containers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.cloud import loopdevices
from orchestrator.porter import blockdevices, filesystems, idmapping, syscalls
from orchestrator.porter.processes import IdMap
from orchestrator.porter.verbs import PorterError

MIB = 2**20
IDS = IdMap(300_000, 300_000, 300_001, 65_536, 300_001, 65_536)


class Disk:
    """A blank disk of 32 MiB, and a place where it may be mounted."""

    def __init__(self, folder: Path) -> None:
        self.file, self.place = folder / "disk", folder / "mounted"
        self.place.mkdir()
        with self.file.open("wb") as opened:
            opened.truncate(32 * MIB)
        self.number = loopdevices.attach(self.file)
        self.device = Path(f"/dev/loop{self.number}")

    def mount(self, kind: str = "ext4", *options: str, ids: IdMap = IDS) -> None:
        users = idmapping.user_namespace(ids)
        try:
            syscalls.mount_file_system(kind, str(self.device), str(self.place), options, 0, users)
        finally:
            os.close(users)

    def unmount(self) -> None:
        while os.path.ismount(self.place):
            syscalls.umount(str(self.place))

    def enlarge(self, size_bytes: int) -> None:
        os.truncate(self.file, size_bytes)
        loopdevices.grow(self.number)

    def as_user(self, user_id: int, command: str) -> str:
        return subprocess.run(
            ["setpriv", f"--reuid={user_id}", f"--regid={user_id}", "--clear-groups", "sh", "-c", command],
            cwd=self.place,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    made = Disk(tmp_path)
    yield made
    made.unmount()
    loopdevices.detach(made.number)


async def test_a_blank_disk_is_formatted_once(disk: Disk) -> None:
    assert await filesystems.kind_of(disk.device) == ""
    with pytest.raises(PorterError, match="is blank and is to be mounted read only"):
        await filesystems.prepare(disk.device, "ext4", read_only=True)
    assert await filesystems.prepare(disk.device, "ext4", read_only=False) == "ext4"
    disk.mount()
    disk.as_user(300_000, "echo kept > file")
    disk.unmount()
    assert await filesystems.prepare(disk.device, "ext3", read_only=False) == "ext4"  # it stays what it is
    disk.mount()
    assert disk.as_user(300_000, "cat file") == "kept"


async def test_what_is_on_a_disk_is_never_overwritten(disk: Disk) -> None:
    table = (
        b"\x00" * 446 + b"\x80\x20\x21\x00\x83\x00\x00\x00\x00\x08\x00\x00\x00\x10\x00\x00" + b"\x00" * 48 + b"\x55\xaa"
    )
    with disk.device.open("r+b") as opened:
        opened.write(table)
        os.fsync(opened.fileno())
    with pytest.raises(PorterError, match=r"has a partition table \(dos\): it is left as it is"):
        await filesystems.prepare(disk.device, "ext4", read_only=False)


async def test_a_kind_that_is_none_is_refused(disk: Disk) -> None:
    with pytest.raises(PorterError, match="file system 'ntfs' is none of ext3, ext4, xfs"):
        await filesystems.prepare(disk.device, "ntfs", read_only=False)


async def test_a_file_system_grows_with_its_disk_before_it_is_mounted(disk: Disk) -> None:
    await filesystems.prepare(disk.device, "ext4", read_only=False)
    disk.enlarge(96 * MIB)
    await filesystems.prepare(disk.device, "ext4", read_only=False)
    disk.mount()
    found = os.statvfs(disk.place)
    assert found.f_blocks * found.f_frsize > 80 * MIB
    await filesystems.grow(disk.device, "ext4", str(disk.place))  # nothing is left to do, which anybody may


async def test_ids_on_the_disk_are_those_of_containers(disk: Disk) -> None:
    """What container user 1234 writes on one node is container user 1234's on another, whose ids are others."""
    await filesystems.prepare(disk.device, "ext4", read_only=False)
    disk.mount()
    assert disk.as_user(300_000, "chmod 777 . && stat -c %u .") == "300000"
    assert disk.as_user(301_234, "touch file && stat -c %u file") == "301234"
    disk.unmount()
    disk.mount(ids=IdMap(500_000, 500_000, 500_001, 65_536, 500_001, 65_536))
    assert disk.as_user(501_234, "rm file && touch file && stat -c %u . file") == "500000\n501234"
    disk.unmount()
    subprocess.run(["mount", disk.device, disk.place], check=True)
    assert (disk.place / "file").stat().st_uid == 1234


async def test_a_disk_is_let_go_when_nothing_has_it(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockdevices, "RELEASE_MAX_S", 0.1)
    await filesystems.prepare(disk.device, "ext4", read_only=False)
    disk.mount()
    with pytest.raises(PorterError, match=rf"{disk.device} is still mounted on this node: .+ \(\d+\)"):
        await blockdevices.let_go(disk.device)
    disk.unmount()
    await blockdevices.let_go(disk.device)


async def test_a_disk_that_shrank_away_is_not_waited_for_for_ever(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockdevices, "APPEAR_MAX_S", 0.1)
    assert await blockdevices.grown(disk.device, 32 * MIB) == 32 * MIB
    with pytest.raises(PorterError, match=f"has {32 * MIB} bytes, and not yet the {64 * MIB}"):
        await blockdevices.grown(disk.device, 64 * MIB)
    with pytest.raises(PorterError, match="disk vol-0000000000000000 is not on this node"):
        await blockdevices.appeared("vol-0000000000000000")


def test_what_mount_says_is_told(disk: Disk) -> None:
    with pytest.raises(OSError, match=r"no-such-option|Unknown parameter|Can't find|bad"):
        disk.mount("ext4", "no-such-option")


def test_a_disk_is_found_by_its_serial_number(tmp_path: Path) -> None:
    devices, block = tmp_path / "dev", tmp_path / "sys"
    (devices / "disk/by-id").mkdir(parents=True)
    for name, serial in (("vda", ""), ("vdb", "vol-1")):
        (block / name).mkdir(parents=True)
        (block / name / "serial").write_text(serial)
    assert blockdevices.find("vol-1", devices, block) == devices / "vdb"
    assert blockdevices.find("vol-2", devices, block) is None
    (devices / "vdc").touch()
    (devices / "disk/by-id/virtio-vol-2").symlink_to("../../vdc")
    assert blockdevices.find("vol-2", devices, block) == devices / "vdc"


@pytest.mark.parametrize(
    ("read", "text", "found"),
    [
        (filesystems.parse_blkid, "DEVNAME=/dev/x\nTYPE=ext4\n", {"DEVNAME": "/dev/x", "TYPE": "ext4"}),
        (filesystems.parse_size, "Block count:              8192\nBlock size:               4096\n", 8192 * 4096),
    ],
)
def test_what_tools_say(read: Callable[[str], object], text: str, found: object) -> None:
    assert read(text) == found
