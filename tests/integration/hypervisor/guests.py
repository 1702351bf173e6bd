"""Guests of a few bytes, and what a test does with them."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from infra.hypervisor.libvirtd import Libvirtd

# Counts on its serial line, `00000001` and so on, some sixty lines a second; the count is nowhere but in its memory:
# xor ebx,ebx; next: inc ebx; eight times { rol ebx,4; al = a hexadecimal digit of bl; out 0x3f8,al }; al = '\n'; out;
# mov ecx,1<<22; 1: dec ecx; jnz 1b; jmp next
COUNTER = bytes.fromhex("6631db6643b90800baf80366c1c30488d8240f3c0a1c692feee2f0b00aee66b900004000664975fcebd9")
SECTOR_BYTES = 512


class Guest:
    """A domain that counts, from a qcow2 overlay on a base image."""

    def __init__(self, libvirtd: Libvirtd, name: str, folder: Path, uuid: str = "") -> None:
        self.libvirtd, self.name, self.folder = libvirtd, name, folder
        self.serial = folder / f"{name}.serial"
        self.disk = folder / f"{name}.qcow2"
        folder.mkdir(exist_ok=True)
        base = folder / "base.qcow2"
        if not base.exists():
            raw = folder / "base.raw"
            raw.write_bytes(COUNTER.ljust(SECTOR_BYTES - 2, b"\0") + b"\x55\xaa" + bytes(1 << 20))
            run("qemu-img", "convert", "-O", "qcow2", str(raw), str(base))
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(self.disk))
        identity = f"<uuid>{uuid}</uuid>" if uuid else ""
        self.virsh(
            "define", "/dev/stdin",
            stdin=f"""<domain type='qemu'><name>{name}</name>{identity}<memory unit='MiB'>16</memory>
            <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
            <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{self.disk}'/>
            <target dev='vda' bus='virtio'/></disk>
            <serial type='file'><source path='{self.serial}'/></serial></devices></domain>""",
        )  # fmt: skip
        self.virsh("start", name)

    def virsh(self, *arguments: str, stdin: str | None = None) -> str:
        return run("virsh", "--quiet", "--connect", self.libvirtd.uri, *arguments, stdin=stdin)

    def count(self) -> int:
        """Its last whole line; 0 where there is none yet."""
        lines = self.serial.read_text(errors="replace").splitlines()[:-1] if self.serial.exists() else []
        return int(lines[-1], 16) if lines and len(lines[-1]) == 8 else 0

    def counted_from(self, mark: int) -> int:
        """The first count in its log after `mark` bytes of it."""
        with self.serial.open("rb") as log:
            log.seek(mark)
            lines = [line for line in log.read().decode().splitlines() if len(line) == 8]
        return int(lines[0], 16)

    def write(self, text: str) -> None:
        """On its disk, at 64 KiB, as it would itself: only while it is off or nobody minds."""
        run("qemu-io", "-c", f"write -s /dev/stdin 64k {len(text)}", str(self.disk), stdin=text)

    @property
    def state(self) -> str:
        return self.virsh("domstate", self.name).strip()


def run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def wait_count(guest: Guest, above: int = 0, timeout_s: float = 30.0) -> int:
    deadline = time.monotonic() + timeout_s
    while (seen := guest.count()) <= above:
        assert time.monotonic() < deadline, f"{guest.name} has counted to {seen}, not beyond {above}"
        time.sleep(0.02)
    return seen
