"""Every Debian package that a hypervisor needs, in one place, by what shows that it is there. Kept apart from the
images' list (infra/images/packages.py), whose every change builds the images anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_EMULATORS = {
    "x86_64": ("qemu-system-x86_64", "qemu-system-x86"),
    "aarch64": ("qemu-system-aarch64", "qemu-system-arm"),
}
EMULATOR, _EMULATOR_PACKAGE = _EMULATORS.get(os.uname().machine, _EMULATORS["x86_64"])

# A command on PATH, or a file -> the package that brings it.
PACKAGES = {
    "libvirtd": "libvirt-daemon-system",  # the daemon with its drivers, where systemd runs also started
    "virsh": "libvirt-clients",
    "/usr/lib/python3/dist-packages/libvirt.py": "python3-libvirt",
    EMULATOR: _EMULATOR_PACKAGE,
    "qemu-img": "qemu-utils",
    "dnsmasq": "dnsmasq-base",  # DHCP and DNS of libvirt's networks
    "iptables": "iptables",  # libvirt's own rules for networks
    "nft": "nftables",  # ours for the way out
    "ip": "iproute2",
    "conntrack": "conntrack",  # the cloud controller forgets flows to a node that is gone
}


def lacking(has: Callable[[str], bool]) -> list[str]:
    return sorted({package for sign, package in PACKAGES.items() if not has(sign)})
