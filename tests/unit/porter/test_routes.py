"""Routes and surroundings from Node objects; nothing to do on one's own result."""

from typing import Any

import pytest

from orchestrator.porter.routes import NodeNetwork, Route, commands, parse_node, parse_routes, routes, surroundings


def node(index: int, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"n{index}"},
        "spec": {"podCIDRs": [f"10.244.{index}.0/24", f"fd00:{index}::/64"]} | spec,
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": f"172.29.0.{index}"},
                {"type": "InternalIP", "address": f"fd01::{index}"},
                {"type": "Hostname", "address": f"n{index}"},
            ]
        },
    }


NODES = [parse_node(node(1)), parse_node(node(2))]


def test_each_family_goes_by_its_own_address() -> None:
    assert routes(NODES, "n1") == {
        Route("10.244.1.0/24", ""),
        Route("fd00:1::/64", ""),
        Route("10.244.2.0/24", "172.29.0.2"),
        Route("fd00:2::/64", "fd01::2"),
    }


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(NodeNetwork("n3", (), ("172.29.0.3",)), id="no-cidr-yet"),
        pytest.param(NodeNetwork("n3", ("10.244.3.0/24",), ("fd01::3",)), id="no-address-of-the-family"),
    ],
)
def test_a_node_that_is_not_ready_has_no_route(other: NodeNetwork) -> None:
    assert routes([*NODES, other], "n1") == routes(NODES, "n1")


def test_a_single_cidr_is_taken_where_no_list_is() -> None:
    assert parse_node(node(1, podCIDRs=None, podCIDR="10.1.0.0/24")).pod_cidrs == ("10.1.0.0/24",)


def test_commands_are_the_difference() -> None:
    present = {Route("10.244.2.0/24", "172.29.0.9"), Route("10.244.9.0/24", "172.29.0.9")}
    wanted = {Route("10.244.2.0/24", "172.29.0.2")}
    assert commands(present, wanted) == [
        "route replace 10.244.2.0/24 via 172.29.0.2 proto 83",
        "route del 10.244.9.0/24 via 172.29.0.9 proto 83",
    ]
    assert commands(wanted, wanted) == []


def test_what_ip_lists_is_read_back() -> None:
    listed = [
        {"dst": "10.244.2.0/24", "gateway": "172.29.0.2", "dev": "eth0", "protocol": "83", "flags": []},
        {"type": "unreachable", "dst": "fd00:1::/64", "dev": "lo", "metric": 4096, "flags": []},
        {"dst": "10.0.0.1", "gateway": "172.29.0.2"},
    ]
    assert parse_routes(listed) == {
        Route("10.244.2.0/24", "172.29.0.2"),
        Route("fd00:1::/64", ""),
        Route("10.0.0.1/32", "172.29.0.2"),
    }


def test_surroundings() -> None:
    found = surroundings(NODES, "n2")
    assert found.own == ("10.244.2.0/24", "fd00:2::/64")
    assert {"10.244.1.0/24", "172.29.0.1", "172.29.0.2", "fd01::1"} <= set(found.inside)
