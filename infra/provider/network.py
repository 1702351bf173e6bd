"""Network: a libvirt network, active, with its DNS records changed live.

libvirt changes DNS records and DHCP hosts of a running network; anything else would cut its guests off for a moment, so
it makes the network anew (and the domains on it are plugged in again, see `domain.py`). DHCP hosts come from the
domains' interfaces (`addresses`, `hostname`), as upstream has it.
"""

from __future__ import annotations

import ipaddress
import threading
import xml.etree.ElementTree as ET
from typing import Any

import msgspec

from infra.provider import marks, xslt
from infra.provider.binding import libvirt
from infra.provider.network_xml import (
    Dns,
    NetworkInputs,
    Subnet,
    build,
    host_element,
    hostnames_by_ip,
    parse,
    srv_element,
    subnet,
)
from infra.provider.properties import Values, known
from infra.provider.refresh import drifted, observable, without_none
from infra.provider.resource import Context, Failure, InitializationFailed, ProviderError

DEFINING = threading.Lock()  # libvirtd gives two networks that are defined at once the same bridge

SAME_AS_ABSENT: dict[str, Values] = {"dhcp": {"enabled": True}, "dns": {"enabled": True, "localOnly": False}}


class Network:
    token = "libvirt:index/network:Network"
    word = "network"
    inputs = NetworkInputs
    defaults = {"mode": "nat", "autostart": False}
    replaces = frozenset(
        {"name", "addresses", "bridge", "dhcp", "dnsmasqOptions", "domain", "mode", "mtu", "routes", "xml"}
        | {"dns.enabled", "dns.forwarders", "dns.localOnly"}
    )
    replaces_if_unknown: frozenset[str] = frozenset()
    computed = frozenset({"bridge"})
    secret: frozenset[str] = frozenset()

    def normalize(self, inputs: Values) -> Values:
        """Subnets by their first address, and without what says no more than its absence (`dns: {enabled: true}`)."""
        spelled = dict(inputs)
        given = inputs.get("addresses")
        if isinstance(given, list):
            spelled["addresses"] = [str(subnet(each)) if isinstance(each, str) else each for each in given]
        for name, absent in SAME_AS_ABSENT.items():
            if isinstance(part := spelled.get(name), dict):
                spelled[name] = {member: value for member, value in part.items() if absent.get(member) != value}
        return spelled

    def check(self, inputs: Values, old: Values) -> list[Failure]:
        network = msgspec.convert(inputs, NetworkInputs, strict=False)
        return [*_check_subnets(network), *_check_mode(network), *_check_dns(network.dns)]

    def consequences(self, changed: frozenset[str], old: Values, new: Values) -> list[str]:
        return []

    def create(self, context: Context, inputs: Values) -> tuple[str, Values]:
        network = msgspec.convert(inputs, NetworkInputs, strict=False)
        root = build(network)
        mark = marks.put(root, context.urn)
        definition = marks.text_of(root)
        if network.xml.xslt:
            definition = xslt.transform(definition, network.xml.xslt)
        found = _find(context.connection, network.name)
        if found is not None:
            there = marks.find(found.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE))
            if there is None or there.owner != mark.owner:
                remedy = f"virsh net-destroy {network.name}; virsh net-undefine {network.name}"
                raise ProviderError(marks.foreign(self.word, network.name, context.uri, there, remedy))
            context.note(f"network {network.name}: an update that was cut short made it; it is taken over")
            if there != mark:
                _remove(found)
                found = None
        if found is None:
            _refuse_overlap(context.connection, network)
            with DEFINING:
                found = context.connection.networkDefineXML(definition)
                try:
                    found.create()
                except libvirt.libvirtError as error:
                    found.undefine()
                    raise ProviderError(_why_not_started(network, error)) from error
        elif not found.isActive():
            found.create()
        found.setAutostart(int(network.autostart))
        return found.UUIDString(), _outputs(inputs, found)

    def read(self, context: Context, id: str, inputs: Values, outputs: Values) -> tuple[str, Values, Values] | None:
        found = _find(context.connection, id)
        if found is None:
            return None
        seen = observable(inputs, _observed(found))
        now = drifted(inputs, seen) if inputs else self.normalize(without_none(seen))
        if not found.isActive():
            reason = f"network {found.name()} is not active; the next update starts it"
            raise InitializationFailed(reason, found.UUIDString(), _outputs(now, found), now)
        return found.UUIDString(), now, _outputs(now, found)

    def update(self, context: Context, id: str, old: Values, outputs: Values, inputs: Values) -> Values:
        found = _find(context.connection, id)
        if found is None:
            raise ProviderError(f"network {inputs['name']} has gone: run pulumi refresh, then pulumi up")
        network = msgspec.convert(inputs, NetworkInputs, strict=False)
        before = msgspec.convert(known(old), NetworkInputs, strict=False)
        if not found.isActive():
            context.note(f"network {network.name} was not active; it is started")
            found.create()
        _update_dns(found, before.dns, network.dns)
        found.setAutostart(int(network.autostart))
        return _outputs(inputs, found)

    def delete(self, context: Context, id: str, outputs: Values) -> None:
        found = _find(context.connection, id)
        if found is not None:
            _remove(found)


def _check_subnets(network: NetworkInputs) -> list[Failure]:
    failures: list[Failure] = []
    before: list[Subnet] = []
    for index, address in enumerate(network.addresses):
        try:
            net = subnet(address)
        except ValueError as error:
            failures.append(Failure(f"addresses[{index}]", f"must be a subnet such as 10.17.3.0/24 ({error})"))
            continue
        if net.num_addresses < 8:
            failures.append(Failure(f"addresses[{index}]", "too small: /29 (IPv4) or /125 (IPv6) at least"))
        if other := next((each for each in before if each.overlaps(net)), None):
            failures.append(Failure(f"addresses[{index}]", f"overlaps {other}, which the network has as well"))
        before.append(net)
    for index, route in enumerate(network.routes):
        try:
            net, gateway = subnet(route.cidr), ipaddress.ip_address(route.gateway)
        except ValueError as error:
            failures.append(Failure(f"routes[{index}]", f"must have a cidr and a gateway address ({error})"))
            continue
        if net.version != gateway.version:
            failures.append(Failure(f"routes[{index}]", "cidr and gateway must be of one family"))
    return failures


def _check_mode(network: NetworkInputs) -> list[Failure]:
    failures: list[Failure] = []
    if network.mode == "bridge":
        if not network.bridge:
            failures.append(Failure("bridge", "mode bridge needs the name of a bridge of the host"))
        given = {"addresses": network.addresses, "domain": network.domain, "routes": network.routes}
        failures += [
            Failure(name, "mode bridge has none of its own: the host's bridge serves the guests")
            for name, value in given.items()
            if value
        ]
    if len(network.bridge) > 15:
        failures.append(Failure("bridge", "at most 15 characters, as Linux has it"))
    if network.dns.local_only and not network.domain:
        failures.append(Failure("dns.localOnly", "needs `domain`, which it is about"))
    if network.xml.xslt and not xslt.is_possible():
        failures.append(
            Failure("xml.xslt", "needs lxml or the program xsltproc (Debian: xsltproc), and neither is there")
        )
    return failures


def _check_dns(dns: Dns) -> list[Failure]:
    failures: list[Failure] = []
    for index, forwarder in enumerate(dns.forwarders):
        if not forwarder.address and not forwarder.domain:
            failures.append(Failure(f"dns.forwarders[{index}]", "needs address, domain or both"))
        elif forwarder.address and not _is_address(forwarder.address):
            failures.append(Failure(f"dns.forwarders[{index}].address", "must be an IP address"))
    for index, host in enumerate(dns.hosts):
        if not _is_address(host.ip):
            failures.append(Failure(f"dns.hosts[{index}].ip", "must be an IP address"))
        if not host.hostname:
            failures.append(Failure(f"dns.hosts[{index}].hostname", "needs a name"))
    for index, srv in enumerate(dns.srvs):
        if not srv.service or srv.protocol not in ("tcp", "udp"):
            failures.append(Failure(f"dns.srvs[{index}]", "needs a service, and tcp or udp as its protocol"))
    return failures


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _find(connection: Any, id: str) -> Any:
    """By UUID, or (an import) by name; None if there is none."""
    for lookup in (connection.networkLookupByUUIDString, connection.networkLookupByName):
        try:
            return lookup(id)
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_NETWORK, libvirt.VIR_ERR_INVALID_ARG):
                raise
    return None


def _remove(network: Any) -> None:
    if network.isActive():
        network.destroy()
    if network.isPersistent():
        network.undefine()


def _refuse_overlap(connection: Any, network: NetworkInputs) -> None:
    """Two networks of one subnet would steal each other's traffic; libvirt looks only at interfaces that are up."""
    wanted = [subnet(address) for address in network.addresses]
    for other in connection.listAllNetworks():
        try:
            seen = parse(other.XMLDesc())
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_NETWORK:  # another update has just removed it
                continue
            raise
        for address in seen.get("addresses", ()):
            taken = subnet(address)
            if clash := next((each for each in wanted if each.version == taken.version and each.overlaps(taken)), None):
                raise ProviderError(
                    f"network {network.name}: {clash} overlaps {taken} of the network {other.name()}, "
                    f"which is not this stack's. Choose another subnet for one of them."
                )


def _why_not_started(network: NetworkInputs, error: Any) -> str:
    said = error.get_error_message()
    remedy = ""
    if "already in use by interface" in said:
        remedy = f" An interface of the host has addresses in {', '.join(network.addresses)}: choose another subnet."
    elif "bridge" in said and "exists" in said:
        remedy = f" Leave `bridge` out, and libvirt picks a free name, or choose another than {network.bridge}."
    return f"network {network.name} cannot be started: {said}.{remedy}"


def _update_dns(network: Any, old: Dns, new: Dns) -> None:
    """Only records that this resource has or had: others may have added theirs."""
    live = parse(network.XMLDesc()).get("dns", {})
    now = msgspec.convert(live, Dns)
    there, wanted = hostnames_by_ip(now.hosts), hostnames_by_ip(new.hosts)
    for ip in sorted(hostnames_by_ip(old.hosts).keys() | wanted.keys()):
        if there.get(ip) == wanted.get(ip):
            continue
        if ip in there:
            _modify(network, libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE, host_element(ip, ()))
        if ip in wanted:
            _modify(network, libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, host_element(ip, wanted[ip]))
    for srv in old.srvs:
        if srv not in new.srvs and srv in now.srvs:
            _modify(network, libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE, srv_element(srv))
    for srv in new.srvs:
        if srv not in now.srvs:
            _modify(network, libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, srv_element(srv))


def _modify(network: Any, command: int, element: ET.Element) -> None:
    section = libvirt.VIR_NETWORK_SECTION_DNS_HOST if element.tag == "host" else libvirt.VIR_NETWORK_SECTION_DNS_SRV
    flags = libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE | libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG
    network.update(command, section, -1, marks.text_of(element), flags)


def _observed(network: Any) -> Values:
    persistent = libvirt.VIR_NETWORK_XML_INACTIVE if network.isPersistent() else 0
    seen = dict.fromkeys(("domain", "mtu", "addresses", "routes", "dnsmasqOptions"))
    return {**seen, **parse(network.XMLDesc(persistent)), "autostart": bool(network.autostart())}


def _outputs(inputs: Values, network: Any) -> Values:
    return {**inputs, "bridge": parse(network.XMLDesc()).get("bridge") or inputs.get("bridge", "")}
