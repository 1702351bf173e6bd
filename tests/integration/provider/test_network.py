"""Conformance of Network: every property of the SDK's schema, against real libvirt through the real CLI."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.provider.stacks import Declared, Stack, declare

DNSMASQ = "{http://libvirt.org/schemas/network/dnsmasq/1.0}"
XSLT = """<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
<xsl:template match="@*|node()"><xsl:copy><xsl:apply-templates select="@*|node()"/></xsl:copy></xsl:template>
<xsl:template match="network/name"><xsl:copy-of select="."/><mtu size="%s"/></xsl:template></xsl:stylesheet>"""


def network(name: str, /, **properties: Any) -> Declared:
    return declare("Network", name, **{"name": name, "mode": "none", **properties})


def definition(connection: Any, name: str) -> ET.Element:
    return ET.fromstring(connection.networkLookupByName(name).XMLDesc())


def attribute(path: str, name: str) -> Callable[[ET.Element], Any]:
    return lambda root: [element.get(name) for element in root.findall(path)]


def dnsmasq(name: str, **value: str) -> dict[str, Any]:
    return {"options": [{"option_name": name, **value}]}


class Case:
    """One property: what it is first and then, what becomes of the network, and where libvirt shows it."""

    def __init__(
        self,
        operation: str,
        before: dict[str, Any],
        after: dict[str, Any],
        shows: Callable[[ET.Element], Any],
        *seen: Any,
    ) -> None:
        self.operation, self.before, self.after, self.shows = operation, before, after, shows
        self.seen_before, self.seen_after = seen


HOST_A, HOST_B = {"hostname": "a.test", "ip": "10.90.7.9"}, {"hostname": "b.test", "ip": "10.90.7.10"}
CASES = {
    "autostart": Case("update", {"autostart": False}, {"autostart": True}, lambda root: None, None, None),
    "hosts": Case(
        "update",
        {"addresses": ["10.90.7.0/24"], "dns": {"enabled": True, "hosts": [HOST_A]}},
        {"addresses": ["10.90.7.0/24"], "dns": {"enabled": True, "hosts": [HOST_B, {**HOST_B, "hostname": "c.test"}]}},
        lambda root: {host.get("ip"): [name.text for name in host] for host in root.findall("dns/host")},
        {"10.90.7.9": ["a.test"]},
        {"10.90.7.10": ["b.test", "c.test"]},
    ),
    "srvs": Case(
        "update",
        {"addresses": ["10.90.8.0/24"], "dns": {"srvs": [{"service": "ldap", "protocol": "tcp", "target": "a.test"}]}},
        {
            "addresses": ["10.90.8.0/24"],
            "dns": {
                "srvs": [
                    {
                        "service": "ldap",
                        "protocol": "tcp",
                        "target": "b.test",
                        "port": "389",
                        "weight": "3",
                        "priority": "2",
                        "domain": "test",
                    }
                ]
            },
        },
        attribute("dns/srv", "target"),
        ["a.test"],
        ["b.test"],
    ),
    "addresses": Case(
        "replace",
        {"addresses": ["10.90.1.0/24"]},
        {"addresses": ["10.90.2.0/24", "fd00:90:2::/64"]},
        attribute("ip", "address"),
        ["10.90.1.1"],
        ["10.90.2.1", "fd00:90:2::1"],
    ),
    "several-of-a-family": Case(
        "replace",
        {"addresses": ["10.90.11.0/24"]},
        {"addresses": ["10.90.12.0/24", "10.90.13.0/24", "fd00:90:12::/64", "fd00:90:13::/64"]},
        attribute("ip", "address"),
        ["10.90.11.1"],
        ["10.90.12.1", "10.90.13.1", "fd00:90:12::1", "fd00:90:13::1"],
    ),
    "bridge": Case(
        "replace", {"bridge": "tbr-a"}, {"bridge": "tbr-b"}, attribute("bridge", "name"), ["tbr-a"], ["tbr-b"]
    ),
    "dhcp": Case(
        "replace",
        {"addresses": ["10.90.3.0/29"], "dhcp": {"enabled": False}},
        {"addresses": ["10.90.3.0/29"], "dhcp": {"enabled": True}},
        attribute("ip/dhcp/range", "end"),
        [],
        ["10.90.3.6"],
    ),
    "dns-off": Case("replace", {}, {"dns": {"enabled": False}}, attribute("dns", "enable"), ["yes"], ["no"]),
    "dns-forwards": Case(
        "replace",
        {"addresses": ["10.90.10.0/24"]},
        {"addresses": ["10.90.10.0/24"], "dns": {"forwarders": [{"address": "1.1.1.1"}]}},
        attribute("dns/forwarder", "addr"),
        [],
        ["1.1.1.1"],
    ),
    "dns-enabled": Case(
        "replace", {"dns": {"enabled": True}}, {"dns": {"enabled": False}}, attribute("dns", "enable"), ["yes"], ["no"]
    ),
    "forwarders": Case(
        "replace",
        {"addresses": ["10.90.4.0/24"], "dns": {"forwarders": [{"address": "9.9.9.9"}]}},
        {"addresses": ["10.90.4.0/24"], "dns": {"forwarders": [{"address": "1.1.1.1", "domain": "x.test"}]}},
        attribute("dns/forwarder", "addr"),
        ["9.9.9.9"],
        ["1.1.1.1"],
    ),
    "local-only": Case(
        "replace",
        {"domain": "lo.test", "dns": {"local_only": False}},
        {"domain": "lo.test", "dns": {"local_only": True}},
        attribute("domain", "localOnly"),
        [None],
        ["yes"],
    ),
    "dnsmasq": Case(
        "replace",
        {"addresses": ["10.90.5.0/24"], "dnsmasq_options": dnsmasq("cache-size", option_value="7")},
        {"addresses": ["10.90.5.0/24"], "dnsmasq_options": dnsmasq("bogus-priv")},
        attribute(f"{DNSMASQ}options/{DNSMASQ}option", "value"),
        ["cache-size=7"],
        ["bogus-priv"],
    ),
    "domain": Case(
        "replace", {"domain": "a.test"}, {"domain": "b.test"}, attribute("domain", "name"), ["a.test"], ["b.test"]
    ),
    "mode": Case(
        "replace",
        {"addresses": ["10.90.9.0/24"], "mode": "open"},
        {"addresses": ["10.90.9.0/24"], "mode": "route"},
        attribute("forward", "mode"),
        ["open"],
        ["route"],
    ),
    "mtu": Case("replace", {"mtu": 1400}, {"mtu": 9000}, attribute("mtu", "size"), ["1400"], ["9000"]),
    "routes": Case(
        "replace",
        {"addresses": ["10.90.6.0/24"], "routes": [{"cidr": "10.91.0.0/16", "gateway": "10.90.6.2"}]},
        {"addresses": ["10.90.6.0/24"], "routes": [{"cidr": "10.92.0.0/16", "gateway": "10.90.6.2"}]},
        attribute("route", "address"),
        ["10.91.0.0"],
        ["10.92.0.0"],
    ),
    "xslt": Case(
        "replace",
        {"xml": {"xslt": XSLT % 1300}},
        {"xml": {"xslt": XSLT % 1200}},
        attribute("mtu", "size"),
        ["1300"],
        ["1200"],
    ),
}


@pytest.fixture(scope="module")
def before(stack: Stack) -> dict[str, str]:
    """All cases in one update, as they are at first; the UUIDs that the networks then have."""
    run = stack.up([network(name, **case.before) for name, case in CASES.items()])
    assert run.operations == dict.fromkeys(CASES, "create")
    return {name: stack.state(name)["id"] for name in CASES}


@pytest.fixture(scope="module")
def shown_before(before: dict[str, str], connection: Any) -> dict[str, ET.Element]:
    return {name: definition(connection, name) for name in CASES}


@pytest.fixture(scope="module")
def changes(shown_before: dict[str, ET.Element], stack: Stack) -> dict[str, str]:
    """The operations of the one update that changes every case's property, as its preview had announced them."""
    wanted = [network(name, **case.after) for name, case in CASES.items()]
    again = stack.up([network(name, **case.before) for name, case in CASES.items()], "--expect-no-changes")
    assert again.unlike_same == {}
    announced = stack.preview(wanted).operations
    made = stack.up(wanted).operations
    assert announced == made
    return made


@pytest.mark.parametrize("name", CASES)
def test_a_property(
    name: str,
    before: dict[str, str],
    shown_before: dict[str, ET.Element],
    changes: dict[str, str],
    connection: Any,
    stack: Stack,
) -> None:
    case = CASES[name]
    assert case.shows(shown_before[name]) == case.seen_before
    assert changes[name] == case.operation
    assert case.shows(definition(connection, name)) == case.seen_after
    found = connection.networkLookupByName(name)
    assert found.isActive()
    assert (found.UUIDString() == before[name]) == (case.operation == "update")


def test_autostart_is_set(changes: dict[str, str], connection: Any) -> None:
    assert connection.networkLookupByName("autostart").autostart() == 1
    assert connection.networkLookupByName("mode").autostart() == 0


def test_the_state_tells_the_bridge_that_libvirt_chose(changes: dict[str, str], connection: Any, stack: Stack) -> None:
    assert stack.state("mode")["outputs"]["bridge"] == connection.networkLookupByName("mode").bridgeName()


def test_what_changed_behind_pulumis_back_is_found_and_undone(
    changes: dict[str, str], connection: Any, stack: Stack
) -> None:
    """Gone, stopped, a record less, a record that others added, not started at boot."""
    lookup = connection.networkLookupByName
    gone = lookup("domain").UUIDString()
    lookup("domain").destroy()
    lookup("domain").undefine()
    lookup("mtu").destroy()
    lookup("autostart").setAutostart(0)
    live_and_config = 3
    lookup("hosts").update(2, 10, -1, "<host ip='10.90.7.10'/>", live_and_config)  # delete from section dns-host
    lookup("hosts").update(3, 10, -1, "<host ip='10.90.7.77'><hostname>d.test</hostname></host>", live_and_config)
    found = stack.refresh()
    assert found.operations["domain"] == "delete"
    assert "network mtu is not active; the next update starts it" in found.output
    run = stack.up([network(name, **case.after) for name, case in CASES.items()])
    assert run.unlike_same == {"domain": "create", "mtu": "update", "autostart": "update", "hosts": "update"}
    assert lookup("domain").UUIDString() != gone
    assert lookup("mtu").isActive()
    assert lookup("autostart").autostart() == 1
    hosts = CASES["hosts"].shows(definition(connection, "hosts"))
    assert hosts == {"10.90.7.10": ["b.test", "c.test"], "10.90.7.77": ["d.test"]}  # not ours to take away
    assert stack.refresh().unlike_same == {}


def test_an_update_that_was_killed_before_it_wrote_its_state_is_taken_over(
    changes: dict[str, str], connection: Any, stack: Stack
) -> None:
    same, other = stack.state("mode")["id"], stack.state("routes")["id"]
    stack.forget("mode")
    stack.forget("routes")
    wanted = {name: network(name, **case.after) for name, case in CASES.items()}
    wanted["routes"] = network("routes", **CASES["routes"].before)  # it was made of other inputs: made anew
    run = stack.up(list(wanted.values()))
    assert run.unlike_same == {"mode": "create", "routes": "create"}
    assert "an update that was cut short made it; it is taken over" in run.diagnostics["mode"]
    assert stack.state("mode")["id"] == same
    assert stack.state("routes")["id"] != other
    assert CASES["routes"].shows(definition(connection, "routes")) == CASES["routes"].seen_before


def test_a_foreign_network_is_refused_untouched_and_can_be_imported(
    new_stack: Callable[[str], Stack], connection: Any
) -> None:
    addresses = "<bridge name='tbr-f'/><ip address='10.90.20.1' prefix='24'/>"
    there = connection.networkDefineXML(f"<network><name>foreign</name>{addresses}</network>")
    there.create()
    there.setAutostart(1)
    before = there.XMLDesc()
    stack = new_stack("importing")
    same = network("foreign", bridge="tbr-f", addresses=["10.90.20.0/24"], autostart=True, dhcp={"enabled": False})
    refused = stack.up([same], fails=True)
    assert "network foreign is already there on" in refused.output
    assert "this stack did not make it; it was not touched" in refused.output
    clash = stack.up([network("another", addresses=["10.90.20.128/25"])], fails=True)
    assert "10.90.20.128/25 overlaps 10.90.20.0/24 of the network foreign" in clash.output
    assert there.XMLDesc() == before
    stack.adopt("Network", "foreign", "foreign")
    assert stack.state("foreign")["id"] == there.UUIDString()
    run = stack.up([same])
    assert run.unlike_same == {}, run.changed
    assert there.XMLDesc() == before
    assert stack.destroy().operations["foreign"] == "delete"
    assert "foreign" not in connection.listNetworks()


def test_two_stacks_at_once_keep_out_of_each_others_way(new_stack: Callable[[str], Stack], connection: Any) -> None:
    stacks = [new_stack("left"), new_stack("right")]
    for number, stack in enumerate(stacks):
        names = [f"{stack.name}-{index}" for index in range(4)]
        stack.declare([network(name, addresses=[f"10.9{3 + number}.{index}.0/24"]) for index, name in enumerate(names)])
    running = [stack.start("up", "--yes", "--skip-preview") for stack in stacks]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    bridges = [connection.networkLookupByName(f"{stack.name}-{n}").bridgeName() for stack in stacks for n in range(4)]
    assert len(set(bridges)) == 8
    taken = stacks[1].up([network("left-0", addresses=["10.97.0.0/24"])], fails=True)
    assert "it belongs to urn:pulumi:left::provider::libvirt:index/network:Network::left-0" in taken.output
    assert connection.networkLookupByName("left-0").isActive()


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        pytest.param({"mode": "brigde"}, "mode", id="a-mode-that-is-none"),
        pytest.param({"addresses": ["10.0.0.0/33"]}, 'addresses[0] = "10.0.0.0/33": must be a subnet', id="no-subnet"),
        pytest.param(
            {"addresses": ["10.0.0.0/16", "10.0.1.0/24"]}, 'addresses[1] = "10.0.1.0/24": overlaps', id="in-one-another"
        ),
        pytest.param({"mtu": 10}, "mtu", id="an-mtu-too-small"),
        pytest.param({"bridge": "a-name-beyond-15-chars"}, "at most 15 characters", id="a-long-bridge"),
    ],
)
def test_a_wrong_value_is_named_in_the_preview(wrong: Stack, properties: dict[str, Any], said: str) -> None:
    assert said in wrong.preview([network("wrong", **properties)], fails=True).output


def test_destroy_leaves_no_network_of_the_stack(changes: dict[str, str], connection: Any, stack: Stack) -> None:
    destroyed = stack.destroy()
    assert destroyed.operations == dict.fromkeys(CASES, "delete")
    assert set(CASES) & {each.name() for each in connection.listAllNetworks()} == set()
