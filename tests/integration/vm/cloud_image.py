"""A Debian cloud image as a user downloads one, made here because a test may not: a partition, GRUB for BIOS before it,
the distribution's kernel and initrd, cloud-init with netplan, SSH, and nothing of Sampan.

Source: GRUB manual, "BIOS installation" (the MBR gap); Debian's genericcloud images.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

from infra.images import cache, tree
from infra.images.machine import disk
from infra.images.packages import NODE_SUITE
from infra.images.sources import debian_mirror

PACKAGES = (
    "ca-certificates", "cloud-guest-utils", "cloud-init", "dbus", "e2fsprogs", "grub-common", "grub-pc-bin",
    "initramfs-tools", "iproute2", "linux-image-cloud-amd64", "netplan.io", "openssh-server", "sudo",
    "systemd-resolved", "systemd-sysv", "udev", "zstd",
)  # fmt: skip
GRUB_MODULES = ("biosdisk", "configfile", "ext2", "linux", "normal", "part_msdos", "serial")
GRUB_CFG = """\
serial --unit=0
linux /vmlinuz root=/dev/vda1 rw console=ttyS0
initrd /initrd.img
boot
"""
SECTOR_BYTES = 512
PARTITION_START = 2048  # sectors: the gap before it is where GRUB's core is
DISK_BYTES = 4 << 30
LINUX = 0x83
ACTIVE = 0x80


def image() -> Path:
    """In the cache: two or three minutes, once."""
    return cache.once("test-cloud-image-2", build) / "cloud.qcow2"


def build(place: Path) -> None:
    root, raw = place / "tree", place / "disk.raw"
    bootstrap(root)
    (root / "etc/fstab").write_text("/dev/vda1 / ext4 defaults 0 1\n")
    (root / "boot/grub").mkdir(parents=True, exist_ok=True)
    (root / "boot/grub/grub.cfg").write_text(GRUB_CFG)
    enable = [
        "systemctl",
        "enable",
        "systemd-networkd.service",
        "systemd-resolved.service",
    ]  # as Debian's images have it
    subprocess.run(["chroot", str(root), *enable], check=True)
    core = ["grub-mkimage", "-O", "i386-pc", "-o", "/core.img", "-p", "(hd0,msdos1)/boot/grub", *GRUB_MODULES]
    subprocess.run(["chroot", str(root), *core], check=True)
    with raw.open("wb") as file:
        file.truncate(DISK_BYTES)
        file.write(boot_sector((root / "usr/lib/grub/i386-pc/boot.img").read_bytes()))
        file.write((root / "core.img").read_bytes())
        assert file.tell() <= PARTITION_START * SECTOR_BYTES
    (root / "core.img").unlink()
    offset = PARTITION_START * SECTOR_BYTES
    mke2fs = [
        *disk.program(root, "usr/sbin/mke2fs"),
        "-q",
        "-F",
        "-t",
        "ext4",
        "-d",
        str(root),
        "-E",
        f"offset={offset}",
    ]
    subprocess.run(
        [*mke2fs, str(raw), f"{(DISK_BYTES - offset) // 1024}k"],
        check=True,
        env={"MKE2FS_CONFIG": str(root / "etc/mke2fs.conf")},
    )
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(place / "cloud.qcow2")], check=True
    )
    raw.unlink()
    shutil.rmtree(root)


def bootstrap(root: Path) -> None:
    """From this machine's mirror, which the image then has as its own, and trusts as this machine does."""
    options = ["--quiet", "--variant=minbase", "--format=directory", *tree.apt_options()]
    source = f"deb {tree.trust()}{debian_mirror()} {NODE_SUITE} main"
    subprocess.run(
        ["mmdebstrap", *options, f"--include={','.join(PACKAGES)}", NODE_SUITE, str(root), source],
        check=True,
        capture_output=True,
    )


def boot_sector(grub: bytes) -> bytes:
    """GRUB's first stage, which loads the sector after it, and a partition table of one entry."""
    sectors = DISK_BYTES // SECTOR_BYTES - PARTITION_START
    entry = struct.pack("<B3sB3sII", ACTIVE, b"\xfe\xff\xff", LINUX, b"\xfe\xff\xff", PARTITION_START, sectors)
    return grub[:446] + entry + bytes(48) + b"\x55\xaa"
