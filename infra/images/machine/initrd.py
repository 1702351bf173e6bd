"""The initrd: busybox, the module of the root disk, and a script of a few lines. 1 MB, a tenth of the usual one.

The kernel has ext4 and PCI built in; virtio_blk alone is a module there. Under emulation every megabyte that is
unpacked and every process that is started before the root file system shows in the boot time.
Format: cpio "newc" (Documentation/driver-api/early-userspace/buffer-format.rst), gzip; equal files give equal bytes.
"""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Iterator
from pathlib import Path

MODULES = ("virtio_blk",)
_REGULAR, _DIRECTORY, _DEVICE = 0o100000, 0o040000, 0o020000

INIT = """\
#!/bin/busybox sh
# The root disk by name, as the kernel's command line has it; nothing here lasts beyond switch_root.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*.ko; do /bin/busybox insmod "$module"; done
root=/dev/vda flags=
for word in $(/bin/busybox cat /proc/cmdline); do
    case "$word" in
        root=*) root=${word#root=} ;;
        rootflags=*) flags=${word#rootflags=} ;;
    esac
done
tries=0
while [ ! -b "$root" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ]; then
        echo "sampan: no disk $root after 30 s; disks: $(/bin/busybox ls /sys/block /dev/vd* 2>&1)" >/dev/console
        /bin/busybox poweroff -f
    fi
    /bin/busybox usleep 100000
done
/bin/busybox mount -t ext4 -o "rw,noatime$flags" "$root" /root ||
    { echo "sampan: cannot mount $root as ext4" >/dev/console; /bin/busybox poweroff -f; }
/bin/busybox mount -o move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /sbin/init
"""


def write(tree: Path, modules: Path, target: Path) -> None:
    """`modules` is the kernel's module folder (`…/lib/modules/VERSION`). LookupError where it lacks a module."""
    archive = b"".join(_entries(tree / "usr/bin/busybox", modules))
    target.write_bytes(gzip.compress(archive, compresslevel=6, mtime=0))


def _entries(busybox: Path, modules: Path) -> Iterator[bytes]:
    for number, name in enumerate(("bin", "dev", "modules", "proc", "root"), start=1):
        yield entry(number, name, _DIRECTORY | 0o755)
    yield entry(10, "dev/console", _DEVICE | 0o600, device=(5, 1))
    yield entry(11, "bin/busybox", _REGULAR | 0o755, busybox.read_bytes())
    yield entry(12, "init", _REGULAR | 0o755, INIT.encode())
    for number, name in enumerate(MODULES, start=20):
        yield entry(number, f"modules/{name}.ko", _REGULAR | 0o644, module(modules, name))
    yield entry(0, "TRAILER!!!", 0)


def module(modules: Path, name: str) -> bytes:
    found = sorted(modules.rglob(f"{name}.ko*"))
    if not found:
        raise LookupError(f"the kernel in {modules} has no module {name}, which the root disk needs")
    data = found[0].read_bytes()
    return lzma.decompress(data) if found[0].suffix == ".xz" else data


def entry(number: int, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One file: header of 13 fields of 8 hexadecimal digits, its name and its data, each padded to 4 bytes."""
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    header = b"070701" + b"".join(b"%08X" % value for value in fields)
    return _padded(header + path) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
