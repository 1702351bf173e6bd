"""A domain's fixed addresses, set in its network while that serves other guests (virNetworkUpdate)."""

from __future__ import annotations

from typing import Any

from infra.provider.binding import libvirt
from infra.provider.dhcp import Host, plan
from infra.provider.marks import text_of
from infra.provider.resource import ProviderError


def apply(network: Any, macs: frozenset[str], wanted: tuple[Host, ...], who: str) -> None:
    try:
        steps = plan(network.XMLDesc(0), macs, wanted)
    except ValueError as error:
        raise ProviderError(f"{who}: network {network.name()}: {error}") from error
    flags = libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG
    if network.isActive():
        flags |= libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE
    commands = {"add": libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, "delete": libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE}
    for step in steps:
        try:
            network.update(
                commands[step.command],
                libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST,
                step.parent,
                text_of(step.element),
                flags,
            )
        except libvirt.libvirtError as error:
            raise ProviderError(
                f"{who}: network {network.name()}: the DHCP host {step.element.get('ip')} cannot be "
                f"{'added' if step.command == 'add' else 'removed'}: {error.get_error_message()}. "
                f"Another guest may have that address or name: virsh net-dumpxml {network.name()}"
            ) from error
