"""Whether this machine's KVM is of use: decided by booting a tiny guest on it, since /dev/kvm can be there and useless.

The guest is a boot sector that does what every kernel does first: it enters long mode with paging, counts to 2**28,
runs an instruction of BMI2 if CPUID has it, and says 42 to QEMU's exit device. Where KVM runs guests natively that
takes a fifth of a second. Where the hypervisor below emulates part of it, QEMU aborts on the host's CPU model, meets
an instruction that is not emulated, or never finishes the count.
The answer is kept until the machine boots again. $SAMPAN_DOMAIN_TYPE overrides it.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, cast

from infra.hypervisor.errors import HypervisorError
from infra.hypervisor.packages import EMULATOR
from infra.images import cache

DomainType = Literal["kvm", "qemu"]
DEVICE = Path("/dev/kvm")
VARIABLE = "SAMPAN_DOMAIN_TYPE"
PROBE_TIMEOUT_S = 8.0
SAYS_42 = 42 << 1 | 1  # isa-debug-exit: QEMU's exit code is twice what the guest wrote, plus one

# Assembled from 16-bit code at 0x7c00: page tables at 0x1000 (PML4), 0x2000 (PDPT) and 0x3000 (one page of 2 MiB);
# CR4.PAE, EFER.LME, CR0.PG and PE; a far jump to a 64-bit segment; then
#     mov ecx, 1<<28; 1: dec ecx; jnz 1b
#     cpuid leaf 7: if BMI2 { eax = 21; ecx = 1; shlx eax, eax, ecx } else { eax = 42 }; out 0xf4, al; hlt
BOOT_SECTOR = bytes.fromhex(
    "fa31c08ed88ec08ed066bf001000000f22df6631c0b9000c66f3ab66c70600100320000066c70600200330000066c7060030830000000f20e0"
    "6683c8200f22e066b9800000c00f32660d000100000f300f0116b87c0f20c0660d010000800f22c0ea667c0800b900000010ffc975fc31c00f"
    "a283f8077222b80700000031c90fa2f7c3000100007411b901000000b815000000c4e271f7c0eb05b82a00000066baf400eef4ebfd90000000"
    "000000000000000000009a20000f00a87c0000"
)


def domain_type(
    configured: str | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    say: Callable[[str], None] = lambda text: None,
) -> DomainType:
    """`configured` (of the lab) goes before the environment, both before the probe."""
    for source, value in (("domainType", configured), (VARIABLE, environment.get(VARIABLE))):
        if value:
            if value not in ("kvm", "qemu"):
                raise HypervisorError(f"{source}: {value!r} is neither kvm nor qemu", "Set one of these, or nothing.")
            return cast(DomainType, value)
    if not DEVICE.exists():
        return "qemu"
    known = cache.folder() / "kvm-probe.json"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if found := _remembered(known, boot):
        return found
    say("trying KVM with a tiny guest")
    reason = why_not("kvm", "host")
    if reason:
        say(f"/dev/kvm is there but of no use ({reason}): guests are emulated (TCG)")
    found = "qemu" if reason else "kvm"
    known.parent.mkdir(parents=True, exist_ok=True)
    new = known.with_name(f".kvm-probe-{os.getpid()}")
    new.write_text(json.dumps({"boot": boot, "type": found, "reason": reason}))
    new.rename(known)
    return found


def _remembered(file: Path, boot: str) -> DomainType | None:
    try:
        data = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return cast(DomainType, data["type"]) if data.get("boot") == boot else None


def why_not(accelerator: str, cpu: str) -> str:
    """Boot the tiny guest; empty where it says 42, else what went wrong instead."""
    if os.uname().machine != "x86_64":
        return f"there is no probe for {os.uname().machine}; {VARIABLE}=kvm overrides this"
    with tempfile.TemporaryDirectory(prefix="sampan-kvm-") as folder:
        disk = Path(folder, "disk")
        disk.write_bytes(BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa")
        command = [
            *(EMULATOR, "-accel", accelerator, "-cpu", cpu, "-m", "16", "-nodefaults", "-display", "none"),
            *("-drive", f"file={disk},format=raw,if=ide,snapshot=on"),
            *("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False, cwd=folder
            )
        except subprocess.TimeoutExpired:
            return f"a guest that counts to 2**28 had not finished after {PROBE_TIMEOUT_S:.0f} s"
        except FileNotFoundError:
            return f"{EMULATOR} is not installed"
    if done.returncode == SAYS_42:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[0] if lines else f"QEMU ended with exit code {done.returncode}"
