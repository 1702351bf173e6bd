"""What a Node becomes once the cloud has spoken."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.meta import Object
from orchestrator.cloud import node_plan
from tests.unit.cloud.objects import instance, node

NEW = {"key": node_plan.UNINITIALIZED, "value": "true", "effect": "NoSchedule"}
OTHER = {"key": "gpu", "effect": "NoSchedule"}
NODE_IPS = {node_plan.PROVIDED_NODE_IP: "172.29.0.11,fd00:172:29::11"}


def test_a_new_node_is_completed_and_opened() -> None:
    made = node_plan.initialized(node(taints=[OTHER, NEW], labels={"mine": "1"}, annotations=NODE_IPS), instance())
    assert made is not None
    assert made["spec"]["taints"] == [OTHER]
    assert made["spec"]["providerID"] == "sampan://lab/worker-1"
    assert made["metadata"]["labels"] == {
        "mine": "1",
        "node.kubernetes.io/instance-type": "namespace",
        "beta.kubernetes.io/instance-type": "namespace",
        "topology.kubernetes.io/zone": "a",
        "failure-domain.beta.kubernetes.io/zone": "a",
        "topology.kubernetes.io/region": "local",
        "failure-domain.beta.kubernetes.io/region": "local",
    }
    assert node_plan.initialized(made, instance()) is None


def test_what_the_cloud_does_not_say_is_no_label() -> None:
    made = node_plan.initialized(node(taints=[NEW]), instance(zone="", region=""))
    assert made is not None
    assert set(made["metadata"]["labels"]) == {"node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"}
    assert "taints" not in made["spec"]


def test_a_provider_id_of_the_kubelet_stays() -> None:
    made = node_plan.initialized(node(taints=[NEW], provider_id="sampan://lab/other"), instance())
    assert made is not None and made["spec"]["providerID"] == "sampan://lab/other"


def test_a_node_ip_that_its_machine_does_not_have_keeps_the_node_closed() -> None:
    closed = node(taints=[NEW], annotations={node_plan.PROVIDED_NODE_IP: "192.0.2.1"})
    with pytest.raises(node_plan.NodeIpUnknown, match=r"worker-1: its kubelet has node IP 192\.0\.2\.1"):
        node_plan.initialized(closed, instance())


def entries(*addresses: tuple[str, str]) -> list[dict[str, str]]:
    return [{"type": kind, "address": address} for kind, address in addresses]


V4, V6, NAME = ("InternalIP", "172.29.0.11"), ("InternalIP", "fd00:172:29::11"), ("Hostname", "worker-1")
OUTSIDE = ("ExternalIP", "198.51.100.7")


@pytest.mark.parametrize(
    ("seen", "told", "want"),
    [
        pytest.param(node(), (V4, V6), None, id="as-they-are"),
        pytest.param(node(), (), None, id="a-cloud-that-knows-none-changes-none"),
        pytest.param(node(), (V4, V6, OUTSIDE), entries(V4, V6, OUTSIDE, NAME), id="one-more-and-the-kubelets-name"),
        pytest.param(
            node(addresses=[("InternalIP", "172.29.0.99"), NAME]), (V4, V6), entries(V4, V6, NAME), id="moved"
        ),
        pytest.param(
            node(annotations={node_plan.PROVIDED_NODE_IP: "fd00:172:29:0::11,172.29.0.11"}), (V4, V6),
            entries(V6, V4, NAME), id="the-kubelets-first-comes-first",
        ),
        pytest.param(
            node(annotations={node_plan.PROVIDED_NODE_IP: "172.29.0.11"}), (V4, V6, OUTSIDE),
            entries(V4, OUTSIDE, NAME), id="of-a-type-with-node-ips-no-others",
        ),
    ],
)  # fmt: skip
def test_addresses(seen: Object, told: tuple[tuple[str, str], ...], want: Any) -> None:
    assert node_plan.addresses(seen, instance(addresses=told)) == want


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        pytest.param({}, {}, id="none"),
        pytest.param({"topology.kubernetes.io/zone": "b"}, {"failure-domain.beta.kubernetes.io/zone": "b"}, id="lacks"),
        pytest.param(
            {"topology.kubernetes.io/zone": "b", "failure-domain.beta.kubernetes.io/zone": "a"},
            {"failure-domain.beta.kubernetes.io/zone": "b"},
            id="differs",
        ),
        pytest.param({"failure-domain.beta.kubernetes.io/zone": "a"}, {}, id="the-older-alone-proves-nothing"),
    ],
)
def test_older_labels_follow(labels: dict[str, str], want: dict[str, str]) -> None:
    assert node_plan.missing_twins(node(labels=labels)) == want


def test_shutdown_taint_comes_once_and_goes() -> None:
    off = node_plan.with_shutdown_taint(node(taints=[OTHER]))
    assert off is not None
    assert off["spec"]["taints"] == [OTHER, {"key": node_plan.SHUTDOWN, "effect": "NoSchedule"}]
    assert node_plan.with_shutdown_taint(off) is None
    on = node_plan.without_taint(off, node_plan.SHUTDOWN)
    assert on is not None and on["spec"]["taints"] == [OTHER]
    assert node_plan.without_taint(on, node_plan.SHUTDOWN) is None
