"""Saving and restoring virtual machines: memory as libvirt's save image, disks as copies of their files.

Memory is saved by an external checkpoint of memory alone, which leaves the machine as it was, paused; its file is one
that virDomainRestore takes. When QEMU has stopped a machine's processors it has written all that it holds of its disks,
so the files are then what the memory believes them to be. The files of the disks keep their names, so nothing that
knows a machine by them (Pulumi, libvirt) sees a change.
Backing files are shared and never written; a snapshot remembers which they were. Source: libvirt.org, formatsnapshot,
"Memory"; virDomainSnapshotCreateXML, virDomainRestoreFlags.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from infra.provider.binding import libvirt
from infra.snapshot import SnapshotError
from infra.snapshot_definition import disks, memory_checkpoint

RECORD = "machines.json"
AGENT = "org.qemu.guest_agent.0"
AGENT_TIMEOUT_S = 5.0
RETRY_S = 0.1
CLOCK_ERROR_MAX_S = 2.0
T = TypeVar("T")


@dataclass(frozen=True)
class Machine:
    """One that was saved. Files by name in the snapshot's folder; disks by the path that they have."""

    node: str
    domain: str
    uuid: str
    memory: str
    disks: dict[str, str]
    backing: dict[str, list[int]]  # path -> size in bytes, time of last change in ns


def look(node: str, domain: Any) -> Machine:
    """What is to be saved of it. Errors: SnapshotError where it is not a machine that can be saved."""
    name = domain.name()
    if not domain.isActive():
        raise SnapshotError(f"machine {name} is off, and a snapshot is of a lab that runs: `./sampan up` first")
    paths = disks(domain.XMLDesc())
    for path in paths:
        if not Path(path).is_file():
            raise SnapshotError(f"machine {name}: its disk {path} is no file of this host: only such are saved")
    names = {path: f"{node}-{number}-{Path(path).name}" for number, path in enumerate(paths)}
    return Machine(node, name, domain.UUIDString(), f"{node}.memory", names, backing(paths))


def backing(paths: Iterable[str]) -> dict[str, list[int]]:
    """The files that disks are overlays of, and how to tell whether they are still the same."""
    found = {}
    for path in paths:
        command = ["qemu-img", "info", "--force-share", "--output=json", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SnapshotError(f"{' '.join(command)}: {done.stderr.strip()}")
        below = json.loads(done.stdout).get("full-backing-filename")
        if below:
            seen = Path(below).stat()
            found[below] = [seen.st_size, seen.st_mtime_ns]
    return found


def save(machine: Machine, domain: Any, folder: Path) -> None:
    """Of a machine that is paused. Memory first: QEMU settles its disks when it stops."""
    definition = memory_checkpoint(domain.XMLDesc(), folder / machine.memory)
    try:
        domain.snapshotCreateXML(definition, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA)
    except libvirt.libvirtError as error:
        raise SnapshotError(f"machine {machine.domain}: its memory was not saved: {error}") from error
    for path, name in machine.disks.items():
        copy(Path(path), folder / name)


def write_record(machines: Sequence[Machine], folder: Path) -> None:
    (folder / RECORD).write_text(json.dumps([asdict(machine) for machine in machines], indent=1))


def read_record(folder: Path) -> list[Machine]:
    return [Machine(**data) for data in json.loads((folder / RECORD).read_text())]


def check(machine: Machine, domain: Any) -> None:
    """Whether it can be put back. Errors: SnapshotError."""
    if domain.UUIDString() != machine.uuid:
        raise SnapshotError(
            f"machine {machine.domain} was made anew since the snapshot, which is of another one: it cannot be restored"
        )
    for path, (size, changed_ns) in machine.backing.items():
        seen = Path(path).stat() if Path(path).exists() else None
        if seen is None or (seen.st_size, seen.st_mtime_ns) != (size, changed_ns):
            raise SnapshotError(
                f"{path}, which the saved disks of {machine.domain} are overlays of, is not what it was: "
                "the snapshot is of another image and cannot be restored"
            )


def power_off(domain: Any) -> None:
    if domain.isActive():
        domain.destroy()


def replace_disks(machine: Machine, folder: Path) -> Callable[[], None]:
    """Copies beside the disks; the answer puts them in their places, and is for when the machine is off."""
    pairs = [(Path(path).with_name(f".{Path(path).name}.coming"), Path(path)) for path in machine.disks]
    for (coming, _), name in zip(pairs, machine.disks.values(), strict=True):
        copy(folder / name, coming)

    def put() -> None:
        for coming, path in pairs:
            coming.rename(path)

    return put


def restore(machine: Machine, connection: Any, folder: Path) -> None:
    """Its memory; it is paused afterwards."""
    try:
        connection.restoreFlags(str(folder / machine.memory), None, libvirt.VIR_DOMAIN_SAVE_PAUSED)
    except libvirt.libvirtError as error:
        raise SnapshotError(
            f"machine {machine.domain}: its memory was not restored: {error}\n"
            "Its disks are: restore again, or start it without (./sampan up)."
        ) from error


def set_clock(domain: Any, by_ssh: Callable[[float], None], now: Callable[[], float] = time.time) -> str:
    """The guest's clock stood while it was saved: set it, by its agent where it has one that answers, else over SSH.

    Answers by which of them. A guest that keeps time by itself (NTP) would be hours behind until its next look.
    """
    if f"'{AGENT}'" in domain.XMLDesc():
        deadline = time.monotonic() + AGENT_TIMEOUT_S
        while time.monotonic() < deadline:
            if _set_by_agent(domain, now):
                return "by its agent"
            time.sleep(RETRY_S)  # it is connected a moment after the guest runs on
    by_ssh(now())
    return "over SSH"


def _set_by_agent(domain: Any, now: Callable[[], float]) -> bool:
    """Whether the guest's clock is right afterwards. An agent that has set it may still complain, where the guest has
    no hwclock to set the hardware's with; that is QEMU's, and right by itself."""
    with suppress(libvirt.libvirtError):
        seconds = now()
        domain.setTime({"seconds": int(seconds), "nseconds": int(seconds % 1 * 1e9)})
    try:
        seen = domain.getTime()
    except libvirt.libvirtError:
        return False
    return abs(seen["seconds"] + seen["nseconds"] / 1e9 - now()) < CLOCK_ERROR_MAX_S


def copy(source: Path, target: Path) -> None:
    """Holes stay holes; blocks are shared where the file system can."""
    command = ["cp", "--archive", "--reflink=auto", "--sparse=always", "--", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        target.unlink(missing_ok=True)
        free = shutil.disk_usage(target.parent).free
        raise SnapshotError(
            f"{source} was not copied: {done.stderr.strip()}\n{target.parent} has {free / 1e9:.1f} GB free: "
            "`./sampan snapshot list` shows what snapshots take, and delete frees it."
        )


def all_at_once(work: Iterable[Callable[[], T]]) -> list[T]:
    """Side by side; the first error is raised when all have ended."""
    jobs = list(work)
    with ThreadPoolExecutor(max_workers=max(1, len(jobs))) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]
