"""Host ports as map elements, and when two pods cannot have the same one."""

import pytest

from orchestrator.porter.hostports import Surroundings, conflict, ruleset
from orchestrator.porter.records import PortMapping, Record


def record(uid: str, *ports: PortMapping, ips: tuple[str, ...] = ("10.244.1.2/24", "fd00:1::2/64")) -> Record:
    result = {"ips": [{"address": ip} for ip in ips]}
    return Record(uid=uid, namespace="d", name=uid, process="1:1", network={}, ports=ports, result=result)


@pytest.mark.parametrize(
    ("port", "elements"),
    [
        pytest.param(
            PortMapping(host_port=80, container_port=8080),
            ["tcp . 80 : 10.244.1.2 . 8080", "tcp . 80 : fd00:1::2 . 8080"],
            id="no-host-address-means-both-families",
        ),
        pytest.param(
            PortMapping(host_port=53, container_port=53, protocol="UDP", host_ip="0.0.0.0"),
            ["inet_service : ipv4_addr . inet_service; elements = { udp . 53 : 10.244.1.2 . 53"],
            id="any-ipv4-address",
        ),
        pytest.param(
            PortMapping(host_port=80, container_port=80, host_ip="172.29.1.2"),
            ["elements = { 172.29.1.2 . tcp . 80 : 10.244.1.2 . 80 }"],
            id="one-address",
        ),
    ],
)
def test_elements(port: PortMapping, elements: list[str]) -> None:
    text = ruleset(Surroundings(), [record("a", port)])
    assert all(element in text for element in elements), text
    if port.host_ip:
        assert "fd00:1::2 ." not in text.replace("fd00:1::2 . fd00:1::2", "")


def test_pods_without_host_ports_leave_no_trace() -> None:
    assert ruleset(Surroundings(), [record("a"), record("b")]) == ruleset(Surroundings(), [])


def test_surroundings_are_split_by_family() -> None:
    text = ruleset(Surroundings(("10.244.1.0/24", "fd00::/64"), ("10.244.1.0/24", "172.29.1.2", "fd00::/64")), [])
    assert "set own4 { type ipv4_addr; flags interval; auto-merge; elements = { 10.244.1.0/24 }; }" in text
    assert "elements = { 10.244.1.0/24, 172.29.1.2 }" in text
    assert "set inside6 { type ipv6_addr; flags interval; auto-merge; elements = { fd00::/64 }; }" in text


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        (PortMapping(host_port=80, container_port=1), PortMapping(host_port=80, container_port=2), True),
        (
            PortMapping(host_port=80, container_port=1),
            PortMapping(host_port=80, container_port=1, protocol="UDP"),
            False,
        ),
        (
            PortMapping(host_port=80, container_port=1, host_ip="10.0.0.1"),
            PortMapping(host_port=80, container_port=1, host_ip="10.0.0.2"),
            False,
        ),
        (
            PortMapping(host_port=80, container_port=1, host_ip="10.0.0.1"),
            PortMapping(host_port=80, container_port=1),
            True,
        ),
    ],
)
def test_conflict(first: PortMapping, second: PortMapping, clash: bool) -> None:
    assert bool(conflict([first], [record("a", second)])) is clash
