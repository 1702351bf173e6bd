"""A network's definition from its properties, and back."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import msgspec
import pytest

from infra.provider.network_xml import NetworkInputs, build, parse


def definition(**inputs: Any) -> ET.Element:
    return build(msgspec.convert({"name": "a", **inputs}, NetworkInputs))


def elements(root: ET.Element, path: str) -> list[str]:
    return [ET.tostring(each, encoding="unicode").strip() for each in root.findall(path)]


@pytest.mark.parametrize(
    ("inputs", "path", "becomes"),
    [
        ({}, "forward", ['<forward mode="nat" />']),
        ({"mode": "none"}, "forward", []),
        ({"addresses": ["fd00:1::/64"]}, "forward", ['<forward mode="nat"><nat ipv6="yes" /></forward>']),
        ({"addresses": ["2001:db8::/64"]}, "forward", ['<forward mode="nat" />']),
        ({"bridge": "br7"}, "bridge", ['<bridge name="br7" stp="on" delay="0" />']),
        ({"mode": "bridge", "bridge": "br0"}, "bridge", ['<bridge name="br0" />']),
        ({"mtu": 9000}, "mtu", ['<mtu size="9000" />']),
        ({"domain": "a.test", "dns": {"localOnly": True}}, "domain", ['<domain name="a.test" localOnly="yes" />']),
        ({"dns": {"enabled": False}}, "dns", ['<dns enable="no" />']),
        (
            {"addresses": ["10.1.2.0/24"]},
            "ip",
            [
                '<ip family="ipv4" address="10.1.2.1" prefix="24"><dhcp>'
                '<range start="10.1.2.2" end="10.1.2.254" /></dhcp></ip>'
            ],
        ),
        (
            {"addresses": ["fd00::/64"]},
            "ip",
            [
                '<ip family="ipv6" address="fd00::1" prefix="64"><dhcp>'
                '<range start="fd00::2" end="fd00::ffff" /></dhcp></ip>'
            ],
        ),
        (
            {"addresses": ["10.0.0.0/8"]},
            "ip/dhcp/range",
            ['<range start="10.0.0.2" end="10.0.255.255" />'],
        ),
        (
            {"addresses": ["10.1.2.0/24"], "dhcp": {"enabled": False}},
            "ip",
            ['<ip family="ipv4" address="10.1.2.1" prefix="24" />'],
        ),
        (
            {"addresses": ["10.1.2.0/24", "10.1.3.0/29", "fd00::/64"]},
            "ip/dhcp/range",
            [
                '<range start="10.1.2.2" end="10.1.2.254" />',
                '<range start="fd00::2" end="fd00::ffff" />',
            ],
        ),
        (
            {"dns": {"hosts": [{"hostname": "b", "ip": "10.1.2.3"}, {"hostname": "c", "ip": "10.1.2.3"}]}},
            "dns/host",
            ['<host ip="10.1.2.3"><hostname>b</hostname><hostname>c</hostname></host>'],
        ),
        (
            {"dns": {"forwarders": [{"address": "9.9.9.9", "domain": "d.test"}]}},
            "dns/forwarder",
            ['<forwarder addr="9.9.9.9" domain="d.test" />'],
        ),
        (
            {"dns": {"srvs": [{"service": "s", "protocol": "tcp", "port": "1"}]}},
            "dns/srv",
            ['<srv service="s" protocol="tcp" port="1" />'],
        ),
        (
            {"routes": [{"cidr": "10.9.0.0/16", "gateway": "10.1.2.7"}]},
            "route",
            ['<route family="ipv4" address="10.9.0.0" prefix="16" gateway="10.1.2.7" />'],
        ),
    ],
)
def test_a_property(inputs: dict[str, Any], path: str, becomes: list[str]) -> None:
    assert elements(definition(**inputs), path) == becomes


def test_options_of_dnsmasq() -> None:
    root = definition(dnsmasqOptions={"options": [{"optionName": "a", "optionValue": "b=c"}, {"optionName": "d"}]})
    space = "{http://libvirt.org/schemas/network/dnsmasq/1.0}"
    assert [each.get("value") for each in root.findall(f"{space}options/{space}option")] == ["a=b=c", "d"]


@pytest.mark.parametrize(
    "inputs",
    [
        {"mode": "open", "bridge": "br7", "mtu": 1400, "domain": "a.test"},
        {"mode": "nat", "addresses": ["10.1.2.0/24", "fd00:1::/64"], "dhcp": {"enabled": True}},
        {
            "addresses": ["10.1.2.0/24"],
            "dhcp": {"enabled": False},
            "routes": [{"cidr": "10.9.0.0/16", "gateway": "10.1.2.7"}],
        },
        {"dnsmasqOptions": {"options": [{"optionName": "a", "optionValue": "b"}, {"optionName": "c"}]}},
        {
            "domain": "a.test",
            "dns": {
                "enabled": True,
                "localOnly": True,
                "hosts": [{"ip": "10.1.2.3", "hostname": "b"}],
                "forwarders": [{"address": "9.9.9.9"}, {"domain": "c"}],
                "srvs": [
                    {"service": "s", "protocol": "udp", "target": "t", "port": "1", "weight": "2", "priority": "3"}
                ],
            },
        },
    ],
)
def test_what_is_built_is_read_back(inputs: dict[str, Any]) -> None:
    seen = parse(ET.tostring(definition(**inputs), encoding="unicode"))
    assert {name: seen[name] for name in inputs} == inputs
