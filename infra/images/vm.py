"""The VM image: a disk with the node's root tree and what a machine needs besides, its kernel and its initrd.

Booted directly (`-kernel`, `-initrd`, `-append`), so the disk needs neither partitions nor a boot loader. What a
machine is told comes from cloud-init's NoCloud disk. Built once, in a cache keyed by its inputs.
Errors: BuildError with the failed step and the end of what it said.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from infra import host
from infra.images import cache
from infra.images.machine import disk, initrd, tree
from infra.images.packages import DISK_COMMANDS, HOST_COMMANDS, MACHINE_PACKAGES
from infra.images.tree import ARCHITECTURES, BuildError, Progress

# net.ifnames=0: one name, eth0, on every machine type. lsm: a BPF program less to compile at each start. panic: start
# again. The rest saves what emulation makes expensive: page tables of five levels, mitigations, probes for devices that
# are not there.
CMDLINE = (
    "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet loglevel=4 systemd.show_status=0 random.trust_cpu=on "
    "lsm=landlock,yama no5lvl mitigations=off i8042.noaux i8042.nokbd cryptomgr.notests panic=5"
)

DISK, KERNEL, INITRD = "disk.qcow2", "vmlinuz", "initrd.img"
SPACE_MB = 1500  # of the cache, while an image is built; 240 of them stay

T = TypeVar("T")


@dataclass(frozen=True)
class VmImage:
    """Files in the cache, never changed: a machine's own disk is an overlay on `disk`."""

    disk: Path
    kernel: Path
    initrd: Path
    cmdline: str
    size_bytes: int  # of the disk as a machine sees it; a machine's own disk has at least this size


def vm_image(say: Progress) -> VmImage:
    """Beyond the node image: downloads about 80 MB and takes about 30 s the first time."""
    host.ensure_image_tools(say, {**HOST_COMMANDS, **DISK_COMMANDS})
    node_tree = cache.node_image(say)
    machine = (cache.ROOT / "infra/images/machine").glob("*.py")
    inputs = [*machine, cache.ROOT / "infra/images/sysctls.py", cache.ROOT / "infra/images/vm.py"]
    seed = f"{cache.digest(inputs)[:10]}{node_tree.parent.name[-6:]}"
    place = cache.once(f"vm-{seed}", lambda folder: build(node_tree, folder, seed, say))
    return VmImage(place / DISK, place / KERNEL, place / INITRD, CMDLINE, disk.DISK_BYTES)


def build(node_tree: Path, folder: Path, seed: str, say: Progress) -> None:
    architecture = ARCHITECTURES[os.uname().machine]
    root = folder / "tree"
    built = _step(
        say,
        f"a machine's root tree: {len(MACHINE_PACKAGES)} packages more, and a kernel",
        lambda: tree.build(node_tree, root, folder / KERNEL, architecture),
    )

    def write() -> None:
        initrd.write(root, built.modules, folder / INITRD)
        disk.clamp(root, built.epoch_s)
        disk.write(root, built.epoch_s, seed, folder / DISK)

    _step(say, "disk and initrd", write)
    subprocess.run(["rm", "-rf", str(root)], check=True)


def _step(say: Progress, what: str, step: Callable[[], T]) -> T:
    say(what)
    try:
        return step()
    except subprocess.CalledProcessError as error:
        said = ((error.stderr or "") + (error.stdout or "")).strip().splitlines()[-12:]
        cause = f"{error.cmd[0]} ended with exit code {error.returncode}"
        full = any("No space left on device" in line for line in said)
        raise BuildError("\n".join([_failure(what, cause, full=full), *said])) from error
    except OSError as error:
        raise BuildError(_failure(what, str(error), full=error.errno == errno.ENOSPC)) from error


def _failure(what: str, cause: str, *, full: bool) -> str:
    remedy = (
        f": {cache.folder()} is full. Building needs about {SPACE_MB} MB there: make room, "
        "or name a folder with room in XDG_CACHE_HOME"
    )
    return f"building the VM image: {what}: {cause}{remedy if full else ''}"
