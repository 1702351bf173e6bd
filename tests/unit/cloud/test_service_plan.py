"""What load balancer a Service asks for, and from which nodes."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.meta import Object
from orchestrator.cloud import service_plan
from orchestrator.cloud.provider import Backend, LoadBalancer, ServicePort
from orchestrator.cloud.service_plan import FINALIZER
from tests.unit.cloud.objects import node, service

PLAIN = LoadBalancer(
    name="a0123456789abcdef0123456789abcde",
    service="default/web",
    families=("IPv4", "IPv6"),
    ports=(ServicePort("TCP", 80, 30080),),
    backends=(Backend("worker-1", ("172.29.0.11", "fd00:172:29::11")),),
)


@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        pytest.param(service(), {}, id="plain"),
        pytest.param(service(ipFamilies=["IPv6"]), {"families": ("IPv6",)}, id="one-family"),
        pytest.param(service(ipFamilies=[], clusterIP="fd00::1"), {"families": ("IPv6",)}, id="from-the-cluster-ip"),
        pytest.param(service(loadBalancerIP="172.29.0.210"), {"requested": "172.29.0.210"}, id="asked-address"),
        pytest.param(service(ingress=["172.29.0.200"]), {"held": ("172.29.0.200",)}, id="held-address"),
        pytest.param(
            service(externalTrafficPolicy="Local", healthCheckNodePort=32000), {"health_check_port": 32000}, id="local"
        ),
        pytest.param(
            service(externalTrafficPolicy="Cluster", healthCheckNodePort=32000), {}, id="cluster-needs-no-health-port"
        ),
        pytest.param(
            service(loadBalancerSourceRanges=[" 10.1.2.3/8 "]), {"source_ranges": ("10.0.0.0/8",)}, id="source-ranges"
        ),
        pytest.param(
            service(annotations={service_plan.SOURCE_RANGES: "10.0.0.0/8, fd00::/16"}),
            {"source_ranges": ("10.0.0.0/8", "fd00::/16")},
            id="by-annotation",
        ),
        pytest.param(service(sessionAffinity="ClientIP"), {"affinity_s": 10800}, id="affinity"),
        pytest.param(
            service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}}),
            {"affinity_s": 60},
            id="affinity-for-a-minute",
        ),
        pytest.param(
            service(
                ports=[
                    {"name": "a", "port": 53, "protocol": "UDP", "nodePort": 30053},
                    {"name": "b", "port": 53, "nodePort": 30053},
                ]
            ),
            {"ports": (ServicePort("UDP", 53, 30053), ServicePort("TCP", 53, 30053))},
            id="two-protocols",
        ),
    ],
)
def test_wish(asked: Object, changes: dict[str, Any]) -> None:
    wanted = {name: getattr(PLAIN, name) for name in LoadBalancer.__struct_fields__} | changes
    assert service_plan.wish(asked, [node()]) == LoadBalancer(**wanted)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        pytest.param(
            service(allocateLoadBalancerNodePorts=False, ports=[{"port": 80, "protocol": "TCP"}]),
            r"port 80/TCP has no node port.*allocateLoadBalancerNodePorts",
            id="no-node-port",
        ),
        pytest.param(service(loadBalancerSourceRanges=["10.0.0.0/99"]), r"source range '10\.0\.0\.0/99'", id="no-cidr"),
    ],
)
def test_what_cannot_be_served_says_why(asked: Object, message: str) -> None:
    with pytest.raises(service_plan.NotServable, match=message):
        service_plan.wish(asked, [node()])


@pytest.mark.parametrize(
    ("asked", "wants", "needs_cleanup"),
    [
        pytest.param(service(), True, False, id="new"),
        pytest.param(service(finalizers=[FINALIZER]), True, False, id="served"),
        pytest.param(service(type="ClusterIP"), False, False, id="never-wanted-one"),
        pytest.param(service(type="NodePort", finalizers=[FINALIZER]), False, True, id="changed-type"),
        pytest.param(service(finalizers=[FINALIZER], deleting=True), False, True, id="deleted"),
        pytest.param(service(loadBalancerClass="example.com/x"), False, False, id="another-implementations"),
        pytest.param(
            service(loadBalancerClass="example.com/x", finalizers=[FINALIZER], deleting=True), False, False,
            id="another-implementations-finalizer",
        ),
    ],
)  # fmt: skip
def test_whose_it_is(asked: Object, wants: bool, needs_cleanup: bool) -> None:
    assert (service_plan.wants(asked), service_plan.needs_cleanup(asked)) == (wants, needs_cleanup)


@pytest.mark.parametrize(
    ("seen", "is_backend"),
    [
        pytest.param(node(), True, id="ready"),
        pytest.param(node(conditions=[{"type": "Ready", "status": "Unknown"}]), True, id="the-health-check-decides"),
        pytest.param(node(labels={service_plan.EXCLUDED: ""}), False, id="excluded"),
        pytest.param(node(labels={service_plan.EXCLUDED: "true"}), False, id="excluded-by-true"),
        pytest.param(node(labels={service_plan.EXCLUDED: "False"}), True, id="not-excluded-by-false"),
        pytest.param(node(deleting=True), False, id="deleting"),
        pytest.param(node(taints=[{"key": service_plan.TO_BE_DELETED}]), False, id="to-be-deleted"),
        pytest.param(node(addresses=[("Hostname", "worker-1")]), False, id="without-address"),
    ],
)
def test_backends(seen: Object, is_backend: bool) -> None:
    assert bool(service_plan.backends([seen])) == is_backend


def test_status_names_every_address_and_its_mode() -> None:
    assert service_plan.status(["172.29.0.200", "fd00::200"]) == {
        "ingress": [{"ip": "172.29.0.200", "ipMode": "VIP"}, {"ip": "fd00::200", "ipMode": "VIP"}]
    }
    assert service_plan.status([]) == {}
