"""A kubelet whose node a cloud controller completes: what it registers, and what it leaves to that one."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from orchestrator.kubelet.config import Config, Taint
from orchestrator.kubelet.node import status
from orchestrator.kubelet.node.status import Measured

IPS = ["172.29.0.11", "fd00:172:29::b"]
OWN = [
    {"type": "InternalIP", "address": IPS[0]},
    {"type": "InternalIP", "address": IPS[1]},
    {"type": "Hostname", "address": "worker-1"},
]
TOLD = [{"type": "InternalIP", "address": "172.29.0.99"}]
MEASURED = Measured(
    runtime_version="5", runtime_error="", porter_error="", enforces=("cpu", "memory", "pids"),
    memory_available_kib=1 << 20, disk_available_percent=50, pids_available_percent=50, capacity={}, allocatable={},
    machine={},
)  # fmt: skip


def config(cloud_provider: Literal["", "external"], **more: Any) -> Config:
    return Config(node_name="worker-1", node_ips=IPS, cloud_provider=cloud_provider, **more)


def test_it_registers_as_uninitialized_with_its_addresses() -> None:
    node = status.new_node(config("external", node_taints=[Taint(key="a", effect="NoSchedule")]))
    assert node["spec"]["taints"] == [
        {"key": "a", "effect": "NoSchedule"},
        {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"},
    ]
    assert node["metadata"]["annotations"]["alpha.kubernetes.io/provided-node-ip"] == ",".join(IPS)


def test_without_a_cloud_it_is_complete_from_the_start() -> None:
    node = status.new_node(config(""))
    assert "taints" not in node["spec"]
    assert "alpha.kubernetes.io/provided-node-ip" not in node["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("provider", "previous", "wanted"),
    [
        pytest.param("", TOLD, OWN, id="its-own-addresses-count"),
        pytest.param("external", [], OWN, id="its-own-until-the-cloud-has-spoken"),
        pytest.param("external", TOLD, TOLD, id="then-the-clouds"),
    ],
)
def test_addresses(
    provider: Literal["", "external"], previous: list[dict[str, str]], wanted: list[dict[str, str]]
) -> None:
    made = status.node_status(config(provider), MEASURED, {"addresses": previous}, 0.0)
    assert made["addresses"] == wanted
