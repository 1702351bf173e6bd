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

from infra.images import cache
from infra.images.machine import disk, initrd, tree
from infra.images.tree import ARCHITECTURES, BuildError, Progress

# net.ifnames=0: one name, eth0, on every machine type. lsm: a BPF program less to compile at each start. The rest saves
# what emulation makes expensive: page tables of five levels, mitigations, probes for devices that are not there.
CMDLINE = (
    "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet loglevel=4 systemd.show_status=0 random.trust_cpu=on "
    "lsm=landlock,yama no5lvl mitigations=off i8042.noaux i8042.nokbd cryptomgr.notests"
)

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
    node_tree = cache.node_image(say)
    machine = (cache.ROOT / "infra/images/machine").glob("*.py")
    inputs = [*machine, cache.ROOT / "infra/images/sysctls.py", cache.ROOT / "infra/images/vm.py"]
    seed = f"{cache.digest(inputs)[:10]}{node_tree.parent.name[-6:]}"
    place = cache.once(f"vm-{seed}", lambda folder: build(node_tree, folder, seed, say))
    return VmImage(place / "disk.qcow2", place / "vmlinuz", place / "initrd.img", CMDLINE, disk.DISK_BYTES)


def build(node_tree: Path, folder: Path, seed: str, say: Progress) -> None:
    architecture = ARCHITECTURES[os.uname().machine]
    root = folder / "tree"

    def make_tree() -> tree.Built:
        return tree.build(node_tree, root, folder / "vmlinuz", architecture)

    built = _step(say, "a machine's packages and kernel", make_tree)

    def make_disk() -> None:
        initrd.write(root, built.modules, folder / "initrd.img")
        disk.clamp(root, built.epoch_s)
        disk.write(root, built.epoch_s, seed, folder / "disk.qcow2")

    _step(say, "disk and initrd", make_disk)
    subprocess.run(["rm", "-rf", str(root)], check=True)


def _step(say: Progress, what: str, step: Callable[[], T]) -> T:
    say(what)
    try:
        return step()
    except subprocess.CalledProcessError as error:
        raise BuildError(f"building the VM image: {what}: {error.cmd[0]}\n{error.stderr}\n{error.stdout}") from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise BuildError(f"building the VM image: {what}: no space left in {cache.folder()}") from error
