"""What a repair makes of Services and addresses that do not agree, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.meta import Object, format_time
from orchestrator.apiserver.strategies.service_addresses import address_of
from orchestrator.apiserver.strategies.service_repair import CreateAddress, DeleteAddress, plan

NOW = 1_700_000_000.0
IP = "10.96.0.7"


def service(name: str = "web", *ips: str, created: float = NOW - 1000, **spec: Any) -> Object:
    metadata = {"name": name, "namespace": "d", "creationTimestamp": format_time(created)}
    return {"metadata": metadata, "spec": {"clusterIP": ips[0] if ips else "None", "clusterIPs": list(ips), **spec}}


def address(parent: str = "web", created: float = NOW - 1000, text: str = IP, **changes: Any) -> Object:
    found = address_of(text, "d", parent)
    found["metadata"] |= {"creationTimestamp": format_time(created), **changes}
    return found


CREATED, DELETED = ["create"], ["delete"]
OTHER: Object = {**address(), "spec": {"parentRef": {"group": "x", "resource": "y", "namespace": "d", "name": "web"}}}


@pytest.mark.parametrize(
    ("services", "addresses", "done"),
    [
        pytest.param([service("web", IP)], [address()], [], id="agree"),
        pytest.param([service("web", IP)], [], CREATED, id="missing"),
        pytest.param([service("web", IP)], [address("gone")], DELETED + CREATED, id="of-a-service-that-is-gone"),
        pytest.param([service("web", IP), service("two", IP)], [address("two")], [], id="of-two-services"),
        pytest.param([service("web", IP)], [address(labels={})], DELETED + CREATED, id="without-labels"),
        pytest.param([service("web", IP)], [OTHER], DELETED + CREATED, id="of-something-else"),
        pytest.param([], [address()], DELETED, id="leaked"),
        pytest.param([], [address(created=NOW - 50)], [], id="perhaps-of-a-service-under-way"),
        pytest.param([], [address(labels={})], [], id="somebody-else-s"),
        pytest.param([service("web", "10.96.0.8")], [address(), address(text="10.96.0.8")], DELETED, id="given-up"),
        pytest.param(
            [service("web", "10.96.0.8", created=NOW - 10)],
            [address(created=NOW - 2), address(text="10.96.0.8")],
            [],
            id="fresh",
        ),
        pytest.param(
            [service("web", type="ExternalName")], [address(created=NOW - 30)], [], id="perhaps-becoming-a-cluster-ip"
        ),
        pytest.param([service("web", type="ExternalName")], [address()], DELETED, id="of-an-external-name"),
        pytest.param([service("web")], [], [], id="headless"),
    ],
)
def test_plan(services: list[Object], addresses: list[Object], done: list[str]) -> None:
    actions = plan(services, addresses, NOW)
    names = {CreateAddress: "create", DeleteAddress: "delete"}
    assert [names[type(action)] for action in actions] == done
    for action in actions:
        if isinstance(action, CreateAddress):
            assert action.obj == address_of(IP, "d", "web")
