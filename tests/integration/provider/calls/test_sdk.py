"""The SDK is the schema: each of its properties is known here, under the same name and no other."""

from __future__ import annotations

from typing import Any

import msgspec
import pulumi_libvirt as sdk
import pytest

from infra.provider import domain_inputs, invokes, network_xml
from infra.provider.__main__ import resources
from infra.provider.cloudinit import CloudInitInputs
from infra.provider.first_boot import FirstBootInputs
from infra.provider.pool import Device, PoolInputs, Source, Target
from infra.provider.volume import VolumeInputs

PARTS: dict[Any, Any] = {
    sdk.NetworkArgs: network_xml.NetworkInputs,
    sdk.NetworkDhcpArgs: network_xml.Dhcp,
    sdk.NetworkDnsArgs: network_xml.Dns,
    sdk.NetworkDnsForwarderArgs: network_xml.Forwarder,
    sdk.NetworkDnsHostArgs: network_xml.DnsHost,
    sdk.NetworkDnsSrvArgs: network_xml.DnsSrv,
    sdk.NetworkDnsmasqOptionsArgs: network_xml.DnsmasqOptions,
    sdk.NetworkDnsmasqOptionsOptionArgs: network_xml.Option,
    sdk.NetworkRouteArgs: network_xml.Route,
    sdk.NetworkXmlArgs: network_xml.Xml,
    sdk.PoolArgs: PoolInputs,
    sdk.PoolSourceArgs: Source,
    sdk.PoolSourceDeviceArgs: Device,
    sdk.PoolTargetArgs: Target,
    sdk.VolumeArgs: VolumeInputs,
    sdk.CloudInitDiskArgs: CloudInitInputs,
    sdk.IgnitionArgs: FirstBootInputs,
    sdk.CombustionArgs: FirstBootInputs,
    sdk.DomainArgs: domain_inputs.DomainInputs,
    sdk.DomainBootDeviceArgs: domain_inputs.BootDevice,
    sdk.DomainConsoleArgs: domain_inputs.Console,
    sdk.DomainCpuArgs: domain_inputs.Cpu,
    sdk.DomainDiskArgs: domain_inputs.Disk,
    sdk.DomainFilesystemArgs: domain_inputs.Filesystem,
    sdk.DomainGraphicsArgs: domain_inputs.Graphics,
    sdk.DomainNetworkInterfaceArgs: domain_inputs.Interface,
    sdk.DomainNvramArgs: domain_inputs.Nvram,
    sdk.DomainTpmArgs: domain_inputs.Tpm,
    sdk.DomainVideoArgs: domain_inputs.Video,
}


@pytest.mark.parametrize("arguments", PARTS, ids=lambda each: each.__name__)
def test_the_properties_are_those_of_the_sdk(arguments: type[Any]) -> None:
    theirs = {name for name, value in vars(arguments).items() if isinstance(value, property)}
    assert set(PARTS[arguments].__struct_fields__) == theirs


def test_the_resources_are_those_of_the_sdk() -> None:
    kinds = ("Network", "Pool", "Volume", "CloudInitDisk", "Domain", "Ignition", "Combustion")
    tokens = {f"libvirt:index/{kind[0].lower()}{kind[1:]}:{kind}" for kind in kinds}
    assert {each.token for each in resources()} == tokens


def test_the_functions_are_those_of_the_sdk() -> None:
    names = [name for name in dir(sdk) if name.startswith("get_") and not name.endswith("_output")]
    spelled = {
        "".join(word if index == 0 else word.title() for index, word in enumerate(name.split("_")))
        for name in names
        if callable(getattr(sdk, name))
    }
    assert set(invokes.FUNCTIONS) == {f"libvirt:index/{name}:{name}" for name in spelled}


@pytest.mark.parametrize("resource", resources(), ids=lambda each: each.word)
def test_what_is_said_of_properties_is_about_properties(resource: Any) -> None:
    """No rule about a property that does not exist."""
    top = {field.encode_name for field in msgspec.structs.fields(resource.inputs)}
    for rules in (
        resource.replaces,
        resource.replaces_if_unknown,
        resource.computed,
        resource.secret,
        resource.defaults,
    ):
        assert {rule.split(".")[0] for rule in rules} <= top
