"""DHCP hosts: the steps from what a network has to what it is to have."""

from __future__ import annotations

import pytest

from infra.provider.dhcp import Host, duid, plan

MAC, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"
FOUR, SIX = Host(MAC, "a", "10.1.0.10"), Host(MAC, "a", "fd00::10")
ENTRY = f"<host mac='{MAC}' name='a' ip='10.1.0.10'/>"
THEIRS = f"<host mac='{OTHER}' name='b' ip='10.1.0.11'/>"


def network(four: str = "", six: str = "") -> str:
    return (
        f"<network><ip address='10.1.0.1' prefix='24'><dhcp><range/>{four}</dhcp></ip>"
        f"<ip family='ipv6' address='fd00::1' prefix='64'><dhcp>{six}</dhcp></ip>"
        "<ip address='10.2.0.1' prefix='24'/></network>"
    )


def steps(definition: str, *wanted: Host) -> list[tuple[str, int, dict[str, str]]]:
    return [
        (step.command, step.parent, dict(step.element.attrib)) for step in plan(definition, frozenset({MAC}), wanted)
    ]


@pytest.mark.parametrize(
    ("definition", "wanted", "taken"),
    [
        pytest.param(
            network(THEIRS),
            (FOUR, SIX),
            [
                ("add", 0, {"mac": MAC, "name": "a", "ip": "10.1.0.10"}),
                ("add", 1, {"id": duid(MAC), "name": "a", "ip": "fd00::10"}),
            ],
            id="new",
        ),
        pytest.param(network(ENTRY + THEIRS), (FOUR,), [], id="as-it-is"),
        pytest.param(
            network(ENTRY),
            (Host(MAC, "a", "10.1.0.20"),),
            [
                ("delete", 0, {"mac": MAC, "name": "a", "ip": "10.1.0.10"}),
                ("add", 0, {"mac": MAC, "name": "a", "ip": "10.1.0.20"}),
            ],
            id="another-address",
        ),
        pytest.param(
            network(ENTRY + THEIRS, f"<host id='{duid(MAC)}' name='a' ip='fd00::10'/>"),
            (),
            [
                ("delete", 0, {"mac": MAC, "name": "a", "ip": "10.1.0.10"}),
                ("delete", 1, {"id": duid(MAC), "name": "a", "ip": "fd00::10"}),
            ],
            id="gone-and-others-stay",
        ),
        pytest.param(
            network(), (Host(MAC, "", "10.1.0.10"),), [("add", 0, {"mac": MAC, "ip": "10.1.0.10"})], id="no-name"
        ),
    ],
)
def test_steps(definition: str, wanted: tuple[Host, ...], taken: list[tuple[str, int, dict[str, str]]]) -> None:
    assert steps(definition, *wanted) == taken


@pytest.mark.parametrize("address", ["10.3.0.1", "10.2.0.5"])
def test_an_address_that_is_not_served(address: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{address} is not in what the network serves by DHCP \(10.1.0.0/24, fd00::/64\)"
    ):
        steps(network(), Host(MAC, "a", address))
