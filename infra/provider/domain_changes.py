"""What a change of a domain's properties means for the guest that runs, told before it is made. Pure."""

from __future__ import annotations

from typing import Any

from infra.provider.properties import Values

LIVE = frozenset(
    {"autostart", "running", "description", "metadata", "disks", "networkInterfaces", "cloudinit"}
)  # what does not restart the domain, unless its guest holds on to a device


def consequences(changed: frozenset[str], old: Values, new: Values) -> list[str]:
    name = new.get("name")
    if old.get("running") is False or new.get("running") is False:
        return []
    if restarting := sorted(changed - LIVE):
        what = ", ".join(_shown(each, old.get(each), new.get(each)) for each in restarting)
        return [f"domain {name} is restarted: libvirt changes {what} only at a start"]
    if changed & {"disks", "networkInterfaces"}:
        return [f"domain {name}: devices are changed while it runs, or by a restart if its guest holds on to one"]
    return []


def _shown(property: str, old: Any, new: Any) -> str:
    is_plain = all(isinstance(value, str | int | None) and len(str(value)) < 40 for value in (old, new))
    return f"{property} ({old} → {new})" if is_plain else property
