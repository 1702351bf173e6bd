"""The host forwards IPv4 as long as something of Sampan's needs it: a lab of namespaces, a libvirtd's networks.

One file each holder in FOLDER; what the setting was before the first is in `before`, and comes back with the last.
IPv6 is left as it is: turning its forwarding on would stop the host from learning its own routes.
"""

from __future__ import annotations

from pathlib import Path

from infra.locks import locked

SETTING = Path("/proc/sys/net/ipv4/ip_forward")
FOLDER = Path("/run/sampan/forwarding")
BEFORE = ".before"


def hold(holder: str, *, root: Path = Path("/"), setting: Path = SETTING) -> None:
    """`root` is where this process sees the host's root."""
    folder = root / FOLDER.relative_to("/")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        before = folder / BEFORE
        if not _holders(folder) or not before.exists():
            before.write_text(setting.read_text())
        (folder / holder).touch()
        if setting.read_text().strip() != "1":
            setting.write_text("1\n")


def release(holder: str, *, root: Path = Path("/"), setting: Path = SETTING) -> None:
    """One that does not hold it is no error."""
    folder = root / FOLDER.relative_to("/")
    if not (folder / holder).exists():
        return
    with locked(folder):
        (folder / holder).unlink(missing_ok=True)
        before = folder / BEFORE
        if not _holders(folder) and before.exists():
            if setting.read_text() != before.read_text():
                setting.write_text(before.read_text())
            before.unlink()


def _holders(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.name != BEFORE]
