"""Domain: a virtual machine, changed in place: what libvirt can do live is done live, else the domain is restarted.

An update writes the whole persistent definition anew (`domain_xml.py`, completed by `domain_merge.py` from the one that
is there). Whether a running domain must be restarted is told by its marks: the one that it was started with has a hash
of all that only a start can change, and the list of what is plugged in. So an update that was cut short is caught up by
the next, whatever its inputs say. The id is libvirt's UUID; a domain made anew has another one.
"""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from typing import Any

import msgspec

from infra.provider import hotplug, marks, network_hosts, power, waiting, xslt
from infra.provider.binding import libvirt
from infra.provider.domain_changes import consequences
from infra.provider.domain_facts import hosts_by_network, look_up
from infra.provider.domain_inputs import DomainInputs, rules
from infra.provider.domain_merge import keys, merge
from infra.provider.domain_read import observed, outputs_of
from infra.provider.domain_xml import Found, build
from infra.provider.properties import Values
from infra.provider.refresh import drifted, observable, without_none
from infra.provider.resource import Context, Failure, InitializationFailed, ProviderError


class Domain:
    token = "libvirt:index/domain:Domain"
    word = "domain"
    inputs = DomainInputs
    defaults = {"type": "kvm", "memory": 512, "vcpu": 1, "running": True, "autostart": False, "qemuAgent": False}
    replaces = frozenset({"name"})
    # Another disk to boot from is another machine; the engine asks with the whole of `disks` unknown.
    replaces_if_unknown = frozenset({"disks", "disks.volumeId"})
    computed = frozenset(
        {"arch", "cpu", "emulator", "machine", "nvram"}
        | {f"networkInterfaces.{name}" for name in ("addresses", "hostname", "mac", "networkId", "networkName")}
    )
    secret: frozenset[str] = frozenset()

    def normalize(self, inputs: Values) -> Values:
        interfaces = inputs.get("networkInterfaces")
        if not isinstance(interfaces, list):
            return inputs
        return {**inputs, "networkInterfaces": [_lower_mac(interface) for interface in interfaces]}

    def check(self, inputs: Values, old: Values) -> list[Failure]:
        return list(rules(msgspec.convert(inputs, DomainInputs, strict=False)))

    def consequences(self, changed: frozenset[str], old: Values, new: Values) -> list[str]:
        return consequences(changed, old, new)

    def create(self, context: Context, inputs: Values) -> tuple[str, Values]:
        wanted = msgspec.convert(inputs, DomainInputs, strict=False)
        found = look_up(context, wanted)
        there = _by_name(context.connection, wanted.name)
        if there is not None:
            mark = marks.find(there.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
            if mark is None or mark.owner != (context.urn, marks.origin()):
                remedy = f"virsh destroy {wanted.name}; virsh undefine {wanted.name} --nvram"
                raise ProviderError(marks.foreign(self.word, wanted.name, context.uri, mark, remedy))
            context.note(f"domain {wanted.name}: an update that was cut short made it; it is taken over")
            return there.UUIDString(), self._bring(context, there, inputs, wanted, found)
        root = _definition(context, wanted, found, None)
        domain = _define(context, wanted.name, root)
        try:
            for network, hosts in hosts_by_network(context, wanted, found):
                network_hosts.apply(network, _macs(found), hosts, f"domain {wanted.name}")
            domain.setAutostart(int(wanted.autostart))
            if wanted.running:
                context.say(f"domain {wanted.name}: starting")
                power.start(context, domain)
        except BaseException:
            _remove(context, domain)
            raise
        return domain.UUIDString(), self._settled(context, domain, inputs, wanted, found)

    def read(self, context: Context, id: str, inputs: Values, outputs: Values) -> tuple[str, Values, Values] | None:
        domain = _by_id(context.connection, id)
        if domain is None:
            return None
        seen = observed(context, domain, inputs)
        now = drifted(inputs, observable(inputs, seen)) if inputs else without_none(seen)
        return domain.UUIDString(), now, outputs_of(domain, now, outputs)

    def update(self, context: Context, id: str, old: Values, outputs: Values, inputs: Values) -> Values:
        domain = _by_id(context.connection, id)
        if domain is None:
            raise ProviderError(f"domain {inputs['name']} has gone: run pulumi refresh, then pulumi up")
        wanted = msgspec.convert(inputs, DomainInputs, strict=False)
        return self._bring(context, domain, inputs, wanted, look_up(context, wanted))

    def delete(self, context: Context, id: str, outputs: Values) -> None:
        domain = _by_id(context.connection, id)
        if domain is not None:
            _remove(context, domain)

    def _bring(self, context: Context, domain: Any, inputs: Values, wanted: DomainInputs, found: Found) -> Values:
        """A domain that is there, to what is wanted."""
        current = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
        root = _definition(context, wanted, found, current)
        _apply_hosts(context, wanted, found, current)
        domain = _define(context, wanted.name, root)
        domain.setAutostart(int(wanted.autostart))
        try:
            _power(context, domain, wanted, root)
        except ProviderError as error:
            raise InitializationFailed(str(error), domain.UUIDString(), outputs_of(domain, inputs, {})) from error
        return self._settled(context, domain, inputs, wanted, found)

    def _settled(self, context: Context, domain: Any, inputs: Values, wanted: DomainInputs, found: Found) -> Values:
        """Its outputs, once the addresses are known that the program waits for."""
        awaited = {
            plug.mac: plug.source
            for interface, plug in zip(wanted.network_interfaces, found.plugs, strict=True)
            if interface.wait_for_lease and wanted.running
        }
        if awaited:
            try:
                waiting.wait(context, domain, awaited, has_agent=wanted.qemu_agent)
            except waiting.NoAddress as error:
                raise InitializationFailed(str(error), domain.UUIDString(), outputs_of(domain, inputs, {})) from error
        return outputs_of(domain, inputs, {})


def _definition(context: Context, wanted: DomainInputs, found: Found, current: str | None) -> ET.Element:
    root = build(wanted, found)
    if wanted.xml.xslt:
        root = ET.fromstring(xslt.transform(marks.text_of(root), wanted.xml.xslt))
    boot, devices = _boot_digest(root), _device_keys(root, found)
    if current is not None:
        merge(root, ET.fromstring(current), marks.find(current))
    marks.put(root, context.urn, boot, devices)
    return root


def _define(context: Context, name: str, root: ET.Element) -> Any:
    try:
        return context.connection.defineXML(marks.text_of(root))
    except libvirt.libvirtError as error:
        raise ProviderError(f"domain {name} cannot be defined: {power.explain(error)}") from error


def _boot_digest(root: ET.Element) -> str:
    """Of all that only a start changes: without what is plugged in and what is only words."""
    rest = copy.deepcopy(root)
    for tag in ("metadata", "description"):
        for element in rest.findall(tag):
            rest.remove(element)
    devices = rest.find("devices")
    if devices is not None:
        for device in [*devices.findall("disk"), *devices.findall("interface")]:
            devices.remove(device)
    return marks.digest(marks.text_of(rest))


def _device_keys(root: ET.Element, found: Found) -> frozenset[str]:
    plugs = {f"interface {plug.mac}": plug.key for plug in found.plugs}
    return frozenset(plugs.get(key, key) for key in keys(root))


def _power(context: Context, domain: Any, wanted: DomainInputs, root: ET.Element) -> None:
    """On or off as wanted; on with what is in the definition."""
    if not wanted.running:
        if domain.isActive():
            power.stop(context, domain)
        return
    mark = marks.find(marks.text_of(root))
    assert mark is not None  # _definition() puts it
    if not domain.isActive():
        context.say(f"domain {wanted.name}: starting")
        power.start(context, domain, anew=not power.is_saved_with(domain, mark))
        return
    live = marks.find(domain.XMLDesc(0))
    if live is not None and live.boot == mark.boot and _exchange(context, domain, live, mark, root):
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            marks.plain(mark),  # libvirt puts the name space in
            marks.PREFIX,
            marks.NAMESPACE,
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )
        return
    context.note(f"domain {wanted.name}: restarting")
    power.restart(context, domain)


def _exchange(context: Context, domain: Any, live: marks.Mark, wanted: marks.Mark, root: ET.Element) -> bool:
    elements = keys(root)
    into = {key: elements[hotplug.short(key)] for key in sorted(wanted.devices - live.devices)}
    return hotplug.exchange(context, domain, live.devices - wanted.devices, into)


def _apply_hosts(context: Context, wanted: DomainInputs, found: Found, current: str) -> None:
    """Fixed addresses in the networks that the domain is on, and none in those that it leaves."""
    before = ET.fromstring(current)
    macs = _macs(found) | {key.removeprefix("interface ") for key in keys(before) if key.startswith("interface ")}
    there = {each.get("network", "") for each in before.findall("devices/interface/source")} - {""}
    for network, hosts in hosts_by_network(context, wanted, found):
        there.discard(network.name())
        network_hosts.apply(network, frozenset(macs), hosts, f"domain {wanted.name}")
    _forget_hosts(context, there, frozenset(macs), wanted.name)


def _forget_hosts(context: Context, networks: set[str], macs: frozenset[str], name: str) -> None:
    for network in sorted(networks):
        try:
            network_hosts.apply(context.connection.networkLookupByName(network), macs, (), f"domain {name}")
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
                raise


def _remove(context: Context, domain: Any) -> None:
    """Off and undefined, with its firmware's store, and without fixed addresses in its networks."""
    name, root = domain.name(), ET.fromstring(domain.XMLDesc(0))
    if domain.isActive():
        power.switch_off(domain)
    if domain.isPersistent():
        domain.undefineFlags(
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        )
    macs = {key.removeprefix("interface ") for key in keys(root) if key.startswith("interface ")}
    networks = {each.get("network", "") for each in root.findall("devices/interface/source")} - {""}
    _forget_hosts(context, networks, frozenset(macs), name)


def _macs(found: Found) -> frozenset[str]:
    return frozenset(plug.mac for plug in found.plugs)


def _lower_mac(interface: Any) -> Any:
    if isinstance(interface, dict) and isinstance(interface.get("mac"), str):
        return {**interface, "mac": interface["mac"].lower()}
    return interface


def _by_name(connection: Any, name: str) -> Any:
    return _find(connection.lookupByName, name)


def _by_id(connection: Any, id: str) -> Any:
    """By UUID, or (an import) by name."""
    return _find(connection.lookupByUUIDString, id) or _by_name(connection, id)


def _find(lookup: Any, key: str) -> Any:
    try:
        return lookup(key)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_INVALID_ARG):
            raise
    return None
