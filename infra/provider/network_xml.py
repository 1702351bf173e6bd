"""A network's properties, its definition built from them, and them read from a definition.

Of a subnet the first address is the host's, and the others are what DHCP serves (of a large one the first 64 Ki, which
is what libvirt takes). Of several subnets of one family libvirt serves one by DHCP: the first. Source: https://libvirt.org/formatnetwork.html
"""

from __future__ import annotations

import ipaddress
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

DNSMASQ = "http://libvirt.org/schemas/network/dnsmasq/1.0"
DHCP_ADDRESSES_MAX = 65_535
ULA = ipaddress.IPv6Network("fc00::/7")

ET.register_namespace("dnsmasq", DNSMASQ)
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


class Part(msgspec.Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """Properties as the SDK spells them."""


class Dhcp(Part, frozen=True):
    enabled: bool = True


class Forwarder(Part, frozen=True):
    address: str = ""
    domain: str = ""


class DnsHost(Part, frozen=True):
    hostname: str = ""
    ip: str = ""


class DnsSrv(Part, frozen=True):
    service: str = ""
    protocol: str = ""
    domain: str = ""
    target: str = ""
    port: str = ""
    priority: str = ""
    weight: str = ""


class Dns(Part, frozen=True):
    enabled: bool = True
    forwarders: tuple[Forwarder, ...] = ()
    hosts: tuple[DnsHost, ...] = ()
    local_only: bool = False
    srvs: tuple[DnsSrv, ...] = ()


class Option(Part, frozen=True):
    option_name: str = ""
    option_value: str = ""


class DnsmasqOptions(Part, frozen=True):
    options: tuple[Option, ...] = ()


class Route(Part, frozen=True):
    cidr: str
    gateway: str


class Xml(Part, frozen=True):
    xslt: str = ""


class NetworkInputs(Part, frozen=True):
    name: str = ""
    addresses: tuple[str, ...] = ()
    autostart: bool = False
    bridge: str = ""
    dhcp: Dhcp = Dhcp()
    dns: Dns = Dns()
    dnsmasq_options: DnsmasqOptions = DnsmasqOptions()
    domain: str = ""
    mode: Literal["none", "nat", "route", "open", "bridge"] = "nat"
    mtu: Annotated[int, msgspec.Meta(ge=68, le=65_521)] | None = None
    routes: tuple[Route, ...] = ()
    xml: Xml = Xml()


def build(network: NetworkInputs) -> ET.Element:
    root = ET.Element("network")
    ET.SubElement(root, "name").text = network.name
    if network.mode != "none":
        forward = ET.SubElement(root, "forward", mode=network.mode)
        if network.mode == "nat" and any(_is_private_v6(subnet(each)) for each in network.addresses):
            ET.SubElement(forward, "nat", ipv6="yes")  # or guests would have a way out on IPv4 alone
    bridge = ET.SubElement(root, "bridge", {"name": network.bridge} if network.bridge else {})
    if network.mtu is not None:
        ET.SubElement(root, "mtu", size=str(network.mtu))
    if network.mode == "bridge":
        return root
    bridge.attrib.update(stp="on", delay="0")
    if network.domain:
        only = {"localOnly": "yes"} if network.dns.local_only else {}
        ET.SubElement(root, "domain", {"name": network.domain, **only})
    _dns(root, network.dns)
    served: set[int] = set()  # families
    for net in map(subnet, network.addresses):
        _ip(root, net, serves_dhcp=network.dhcp.enabled and net.version not in served)
        served.add(net.version)
    for route in network.routes:
        _route(root, route)
    if network.dnsmasq_options.options:
        options = ET.SubElement(root, f"{{{DNSMASQ}}}options")
        for option in network.dnsmasq_options.options:
            value = f"{option.option_name}={option.option_value}" if option.option_value else option.option_name
            ET.SubElement(options, f"{{{DNSMASQ}}}option", value=value)
    return root


def subnet(address: str) -> Subnet:
    """Of `10.1.0.0/24`, or of an address in it with its prefix. ValueError otherwise."""
    return ipaddress.ip_network(address, strict=False)


def host_element(ip: str, hostnames: Sequence[str]) -> ET.Element:
    host = ET.Element("host", ip=ip)
    for hostname in hostnames:
        ET.SubElement(host, "hostname").text = hostname
    return host


def srv_element(srv: DnsSrv) -> ET.Element:
    return ET.Element("srv", {name: value for name, value in msgspec.structs.asdict(srv).items() if value})


def hostnames_by_ip(hosts: Sequence[DnsHost]) -> dict[str, tuple[str, ...]]:
    """libvirt has one entry an address, with all its names."""
    found: dict[str, tuple[str, ...]] = {}
    for host in hosts:
        found[host.ip] = (*found.get(host.ip, ()), host.hostname)
    return found


def parse(text: str) -> dict[str, Any]:
    """The properties that a definition holds, as the SDK spells them; what is not set is left out."""
    root = ET.fromstring(text)
    forward, bridge, domain, dns, mtu = (root.find(tag) for tag in ("forward", "bridge", "domain", "dns", "mtu"))
    found: dict[str, Any] = {
        "name": root.findtext("name") or "",
        "mode": "none" if forward is None else forward.get("mode", "nat"),
        "bridge": "" if bridge is None else bridge.get("name", ""),
    }
    if domain is not None:
        found["domain"] = domain.get("name", "")
    if mtu is not None:
        found["mtu"] = int(mtu.get("size", "0"))
    ips = root.findall("ip")
    if ips:
        found["addresses"] = [str(subnet(f"{ip.get('address')}/{_prefix(ip)}")) for ip in ips]
        found["dhcp"] = {"enabled": any(ip.find("dhcp") is not None for ip in ips)}
    if routes := root.findall("route"):
        found["routes"] = [
            {"cidr": f"{route.get('address')}/{_prefix(route)}", "gateway": route.get("gateway", "")}
            for route in routes
        ]
    if options := root.findall(f"{{{DNSMASQ}}}options/{{{DNSMASQ}}}option"):
        found["dnsmasqOptions"] = {"options": [_option(option.get("value", "")) for option in options]}
    found["dns"] = _read_dns(dns, domain)
    return found


def _dns(root: ET.Element, dns: Dns) -> None:
    element = ET.SubElement(root, "dns", enable="yes" if dns.enabled else "no")
    if not dns.enabled:
        return
    for forwarder in dns.forwarders:
        given = {"addr": forwarder.address, "domain": forwarder.domain}
        ET.SubElement(element, "forwarder", {name: value for name, value in given.items() if value})
    element.extend(srv_element(srv) for srv in dns.srvs)
    element.extend(host_element(ip, names) for ip, names in hostnames_by_ip(dns.hosts).items())


def _ip(root: ET.Element, net: Subnet, *, serves_dhcp: bool) -> None:
    element = ET.SubElement(root, "ip", family=f"ipv{net.version}", address=str(net[1]), prefix=str(net.prefixlen))
    if serves_dhcp:
        last = min(net.num_addresses - (2 if net.version == 4 else 1), DHCP_ADDRESSES_MAX)
        ET.SubElement(ET.SubElement(element, "dhcp"), "range", start=str(net[2]), end=str(net[last]))


def _route(root: ET.Element, route: Route) -> None:
    net = subnet(route.cidr)
    ET.SubElement(
        root,
        "route",
        family=f"ipv{net.version}",
        address=str(net.network_address),
        prefix=str(net.prefixlen),
        gateway=route.gateway,
    )


def _is_private_v6(net: Subnet) -> bool:
    return isinstance(net, ipaddress.IPv6Network) and net.subnet_of(ULA)


def _prefix(element: ET.Element) -> str:
    return element.get("prefix") or element.get("netmask") or "32"


def _option(value: str) -> dict[str, str]:
    name, separator, argument = value.partition("=")
    return {"optionName": name, "optionValue": argument} if separator else {"optionName": name}


def _read_dns(dns: ET.Element | None, domain: ET.Element | None) -> dict[str, Any]:
    found: dict[str, Any] = {"enabled": dns is None or dns.get("enable", "yes") == "yes"}
    if domain is not None and domain.get("localOnly") == "yes":
        found["localOnly"] = True
    if dns is None:
        return found
    names = {"addr": "address", "domain": "domain"}
    found["forwarders"] = [
        {names[name]: value for name, value in each.attrib.items() if name in names}
        for each in dns.findall("forwarder")
    ]
    found["srvs"] = [dict(each.attrib) for each in dns.findall("srv")]
    found["hosts"] = [
        {"ip": each.get("ip", ""), "hostname": name.text or ""} for each in dns.findall("host") for name in each
    ]
    return {name: value for name, value in found.items() if value != []}
