"""DHCP hosts: fixed addresses of a domain's interfaces, as entries of its network. Pure; `network_hosts.py` acts.

An entry is known by the interface: on IPv4 by its MAC, on IPv6 (where DHCP knows no MAC) by the identifier that a
client derives from it (DUID-LL, RFC 8415 section 11.4), and by the host name besides, for clients that choose another.
Source: https://libvirt.org/formatnetwork.html, virNetworkUpdate.
"""

from __future__ import annotations

import ipaddress
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from infra.provider.network_xml import subnet


@dataclass(frozen=True, slots=True)
class Host:
    mac: str
    hostname: str
    address: str

    @property
    def version(self) -> int:
        return ipaddress.ip_address(self.address).version

    @property
    def identity(self) -> str:
        return self.mac if self.version == 4 else duid(self.mac)


@dataclass(frozen=True, slots=True)
class Step:
    command: str  # add or delete
    parent: int  # index of the network's <ip>
    element: ET.Element


def duid(mac: str) -> str:
    return f"00:03:00:01:{mac}"


def plan(definition: str, macs: frozenset[str], wanted: tuple[Host, ...]) -> list[Step]:
    """What to change so that exactly `wanted` is there of those MACs. ValueError for an address the network has not."""
    ips = ET.fromstring(definition).findall("ip")
    served = [
        (index, subnet(f"{ip.get('address')}/{ip.get('prefix') or ip.get('netmask')}"), ip.find("dhcp"))
        for index, ip in enumerate(ips)
    ]
    places: dict[Host, int] = {}
    for host in wanted:
        address = ipaddress.ip_address(host.address)
        at = next((index for index, net, dhcp in served if address in net and dhcp is not None), None)
        if at is None:
            nets = ", ".join(str(net) for _, net, dhcp in served if dhcp is not None) or "no subnet"
            raise ValueError(f"{host.address} is not in what the network serves by DHCP ({nets})")
        places[host] = at
    identities = {identity for mac in macs for identity in (mac, duid(mac))}
    missing = dict(places)
    steps: list[Step] = []
    for index, _, dhcp in served:
        for there in [] if dhcp is None else dhcp.findall("host"):
            if (there.get("mac") or there.get("id") or "").lower() not in identities:
                continue
            same = next((host for host, at in missing.items() if at == index and _is_same(there, host)), None)
            if same is None:
                steps.append(Step("delete", index, there))
            else:
                del missing[same]
    return steps + [Step("add", at, _element(host)) for host, at in missing.items()]


def _is_same(there: ET.Element, host: Host) -> bool:
    return there.get("ip") == host.address and there.get("name", "") == host.hostname


def _element(host: Host) -> ET.Element:
    element = ET.Element("host", {"mac" if host.version == 4 else "id": host.identity})
    if host.hostname:
        element.set("name", host.hostname)
    element.set("ip", host.address)
    return element
