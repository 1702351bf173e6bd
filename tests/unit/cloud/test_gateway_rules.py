"""The gateway's rules, as text; what packets make of them is in tests/integration/cloud."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator.cloud import gateway_rules
from orchestrator.cloud.gateway_rules import Front, Place
from orchestrator.cloud.provider import ServicePort

PLACE = Place(
    table="t", bridge="br0", addresses=("172.29.0.1", "fd00:172:29::1"), networks=("172.29.0.0/24", "fd00:172:29::/64")
)
TCP = (ServicePort("TCP", 80, 30080),)
TWO = (("n1", "172.29.0.11"), ("n2", "172.29.0.12"))


def front(address: str = "172.29.0.200", **more: object) -> Front:
    base: dict[str, object] = {"ports": TCP, "backends": TWO}
    return Front(address=address, **(base | more))  # type: ignore[arg-type]


def lines(*fronts: Front) -> list[str]:
    return [line.strip() for line in gateway_rules.ruleset(PLACE, fronts).splitlines()]


def test_it_replaces_the_table_in_one_transaction() -> None:
    assert lines()[:3] == ["table inet t", "delete table inet t", "table inet t {"]


def test_a_front_draws_a_node() -> None:
    made = lines(front())
    assert "elements = { 172.29.0.200 . tcp . 80 : goto front-0 }" in made
    targets = "0 : 172.29.0.11 . 30080, 1 : 172.29.0.12 . 30080"
    assert f"meta l4proto tcp dnat ip to numgen random mod 2 map {{ {targets} }}" in made


def test_a_front_without_a_node_is_refused_by_its_address() -> None:
    made = lines(front(backends=()))
    assert "elements = { 172.29.0.200 }" in made
    assert not [line for line in made if "dnat ip to" in line]


def test_the_order_of_load_balancers_changes_nothing() -> None:
    one, two = front(), front("fd00:172:29::200", backends=(("n1", "fd00:172:29::b"),))
    assert lines(one, two) == lines(two, one)


@pytest.mark.parametrize(
    ("address", "ranges", "want"),
    [
        pytest.param("172.29.0.200", (), [], id="everybody"),
        pytest.param("172.29.0.200", ("10.1.0.0/16", "10.0.0.0/8"), ["ip saddr != { 10.0.0.0/8 } drop"], id="overlap"),
        pytest.param(
            "172.29.0.200", ("172.29.0.1/32",), ["ip saddr != { 172.29.0.1/32, 172.29.0.200/32 } drop"],
            id="the-gateway-itself-comes-from-the-front",
        ),
        pytest.param("fd00:172:29::200", ("172.29.0.1/32",), ["drop"], id="of-the-other-family-only"),
        pytest.param("fd00:172:29::200", ("fd00::/8",), ["ip6 saddr != { fd00::/8 } drop"], id="sixes"),
    ],
)  # fmt: skip
def test_source_ranges(address: str, ranges: tuple[str, ...], want: list[str]) -> None:
    made = lines(front(address, source_ranges=ranges, backends=(("n1", address),)))
    assert [line for line in made if line.endswith("drop")] == want


def test_with_affinity_a_client_has_a_slot() -> None:
    made = [line for line in lines(front(has_affinity=True)) if "dnat" in line and "map" in line]
    assert len(made) == 1 and "jhash ip saddr mod 128 seed 0x53616d70 map { 0 : " in made[0]


def test_a_node_that_goes_moves_no_clients_but_its_own() -> None:
    three = [("n1", "a"), ("n2", "b"), ("n3", "c")]
    before, after = gateway_rules.slots(three), gateway_rules.slots(three[:2])
    assert all(old == new for old, new in zip(before, after, strict=True) if old != "c")
    shares = Counter(before)
    assert min(shares.values()) > gateway_rules.SLOTS / 3 / 2, shares


def test_the_gateways_own_clients_and_neighbours_get_its_address() -> None:
    made = [line for line in lines(front()) if "snat" in line]
    assert [line.partition("snat ")[2] for line in made] == ["ip to 172.29.0.1"] * 2 + ["ip6 to fd00:172:29::1"] * 2
    assert all(line.startswith('oifname "br0" ct status dnat ct original ip') for line in made)
