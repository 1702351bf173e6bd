"""File systems on disks: what is there, made where there is nothing, checked, and grown.

A disk is formatted only where blkid finds neither a file system nor a partition table on it. What has grown is grown
before it is mounted, which any root may do; ext4 grows while it is mounted only for one who has CAP_SYS_RESOURCE, which
containers as hosts of a lab mostly lack. Errors: PorterError with what the tool said.
Source: blkid(8), mke2fs(8), fsck(8), resize2fs(8), xfs_growfs(8); the kubelet's SafeFormatAndMount.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

from orchestrator.porter import blockdevices
from orchestrator.porter.verbs import PorterError

TOOL_TIMEOUT_S = 300.0  # mke2fs and fsck of a large disk
NOTHING_FOUND = 2  # blkid's answer
GROWTH_LEAST_BYTES = 2**20
UNCORRECTED = 4  # fsck's answers from here on mean that it could not repair
# No blocks are kept for root, who is nobody in a pod; the file system is whole at once, with no work left for later.
MAKE: Mapping[str, tuple[str, ...]] = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-m", "0"),
    "ext3": ("mkfs.ext3", "-q", "-F", "-m", "0"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}


def parse_blkid(text: str) -> dict[str, str]:
    """`TYPE=ext4`, `PTTYPE=gpt`, one a line."""
    return {key: value for key, given, value in (line.partition("=") for line in text.splitlines()) if given}


async def kind_of(device: Path) -> str:
    """The file system on a disk; "" where the disk is blank."""
    code, out, err = await run("blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", str(device))
    if code == NOTHING_FOUND:
        return ""
    if code != 0:
        raise PorterError(f"blkid {device}: exit code {code}: {err}")
    found = parse_blkid(out)
    if "PTTYPE" in found and "TYPE" not in found:
        raise PorterError(f"{device} has a partition table ({found['PTTYPE']}): it is left as it is")
    return found.get("TYPE", "")


def parse_size(text: str) -> int:
    """Bytes of an ext file system, from the superblock as `dumpe2fs -h` shows it."""
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    return int(found["Block count"]) * int(found["Block size"])


async def prepare(device: Path, wanted: str, *, read_only: bool) -> str:
    """Makes a file system where there is none, repairs what a crash left, and grows one that is smaller than its disk;
    the kind that is there now."""
    if wanted not in MAKE:
        raise PorterError(f"file system {wanted!r} is none of {', '.join(sorted(MAKE))}")
    found = await kind_of(device)
    if not found:
        if read_only:
            raise PorterError(f"{device} is blank and is to be mounted read only")
        await done(*MAKE[wanted], str(device))
        return wanted
    if found.startswith("ext") and not read_only:
        code, out, err = await run("fsck", "-a", str(device))
        if code >= UNCORRECTED:
            raise PorterError(f"fsck found errors on {device} but could not correct them: {out or err}")
        await _grow_unmounted(device)
    return found


async def _grow_unmounted(device: Path) -> None:
    code, out, err = await run("dumpe2fs", "-h", str(device))
    if code != 0:
        raise PorterError(f"dumpe2fs -h {device}: exit code {code}: {err}")
    if blockdevices.size_bytes(device) - parse_size(out) >= GROWTH_LEAST_BYTES:
        await run("e2fsck", "-f", "-p", str(device))  # resize2fs asks for it, and judges the outcome by itself
        await done("resize2fs", str(device))


async def grow(device: Path, kind: str, mounted_at: str) -> None:
    """To the size of its device, while mounted; nothing happens where it has that size."""
    if kind.startswith("ext"):
        code, out, err = await run("resize2fs", str(device))
        if "Permission denied" in err:
            raise PorterError(f"this node may not let a mounted {kind} grow (no CAP_SYS_RESOURCE): the next mount does")
        if code != 0:
            raise PorterError(f"resize2fs {device}: exit code {code}: {err or out}")
    elif kind == "xfs":
        await done("xfs_growfs", "-d", mounted_at)
    else:
        raise PorterError(f"a file system of kind {kind} cannot grow here")


async def done(*command: str) -> None:
    code, out, err = await run(*command)
    if code != 0:
        raise PorterError(f"{' '.join(command)}: exit code {code}: {err or out}")


async def run(*command: str) -> tuple[int, str, str]:
    """Exit code, output and errors. PorterError where the tool is not on this node, or takes too long."""
    program = shutil.which(command[0], path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        raise PorterError(f"{command[0]} is not on this node")
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(program, *command[1:], stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(TOOL_TIMEOUT_S):
            out, err = await child.communicate()
    except TimeoutError as error:
        raise PorterError(f"{' '.join(command)} took more than {TOOL_TIMEOUT_S:.0f} s") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return child.returncode or 0, out.decode(errors="replace").strip(), _one_line(err.decode(errors="replace"))


def _one_line(text: str) -> str:
    """For events, where what follows the first line is not shown."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
