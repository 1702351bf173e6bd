"""Hot-plug: disks and interfaces of a running domain, changed while it runs where its guest goes along.

A guest lets go of a device when its system answers; one that does not, in a few seconds, needs a restart.
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from infra.provider.binding import libvirt
from infra.provider.domain_merge import keys
from infra.provider.marks import text_of
from infra.provider.resource import Context

UNPLUG_TIMEOUT_S = 5.0
POLL_S = 0.1


def short(key: str) -> str:
    """The key by which a device is found in a definition: an interface's without what it is plugged into."""
    return " ".join(key.split(" ")[:2]) if key.startswith("interface ") else key


def exchange(context: Context, domain: Any, out: frozenset[str], into: Mapping[str, ET.Element]) -> bool:
    """Unplug `out` (keys), plug in `into`. False if that did not all work: then a restart must do it."""
    name = domain.name()
    live = keys(ET.fromstring(domain.XMLDesc(0)))
    for key in sorted(out):
        if (device := live.get(short(key))) is not None and not _unplug(context, domain, key, device):
            context.note(f"domain {name}: its guest does not let go of {key}")
            return False
    live = keys(ET.fromstring(domain.XMLDesc(0)))
    for key, device in into.items():
        if short(key) in live:
            continue
        try:
            domain.attachDeviceFlags(text_of(device), libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except libvirt.libvirtError as error:
            context.note(f"domain {name}: {key} cannot be plugged in while it runs: {error.get_error_message()}")
            return False
        context.note(f"domain {name}: {key} is plugged in")
    return True


def _unplug(context: Context, domain: Any, key: str, device: ET.Element) -> bool:
    try:
        domain.detachDeviceFlags(text_of(device), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError:
        return False
    deadline = context.clock() + UNPLUG_TIMEOUT_S
    while context.clock() < deadline:
        if short(key) not in keys(ET.fromstring(domain.XMLDesc(0))):
            context.note(f"domain {domain.name()}: {key} is unplugged")
            return True
        time.sleep(POLL_S)
    return False
