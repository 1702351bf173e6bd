"""What pods ask for, the bounds of LimitRanges, and what counts towards a quota."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from orchestrator.api.clock import FixedClock
from orchestrator.api.meta import Object
from orchestrator.api.podresources import amounts, pod_amounts
from orchestrator.api.quota_scopes import covers
from orchestrator.api.quota_usage import kinds_of, unspecified, usage
from orchestrator.api.resources import PODS, RESOURCEQUOTAS, ResourceTable
from orchestrator.api.status import Forbidden
from orchestrator.api.wire import Identity
from orchestrator.apiserver.admission.limitranger import bounds, claim_faults, defaults, pod_faults
from orchestrator.apiserver.admission.resourcequota import ADMITTED_S, ResourceQuota
from orchestrator.apiserver.lookup import MemoryLookup
from orchestrator.apiserver.request import Attributes

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z


def container(cpu: str, name: str = "c", **more: Any) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": {"cpu": cpu}}, **more}


def pod(*containers: dict[str, Any], name: str = "web", **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "d"}, "spec": {"containers": list(containers), **spec}}


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        pytest.param({"containers": [container("1"), container("500m")]}, "1.5", id="containers-add-up"),
        pytest.param(
            {"containers": [container("1")], "initContainers": [container("2"), container("3")]},
            "3",
            id="the-most-demanding-moment",
        ),
        pytest.param(
            {
                "containers": [container("1")],
                "initContainers": [container("1", restartPolicy="Always"), container("3")],
            },
            "4",
            id="a-sidecar-runs-beside-later-ones",
        ),
        pytest.param({"containers": [container("1")], "overhead": {"cpu": "250m"}}, "1.25", id="overhead"),
        pytest.param(
            {"containers": [container("1")], "overhead": {"cpu": "250m"}, "resources": {"requests": {"cpu": "3"}}},
            "3.25",
            id="the-whole-pod",
        ),
    ],
)
def test_what_a_pod_asks_for(spec: dict[str, Any], cpu: str) -> None:
    assert pod_amounts(spec, "requests") == {"cpu": Decimal(cpu)}


@pytest.mark.parametrize(
    ("item", "requests", "limits", "found"),
    [
        pytest.param(
            {"min": {"cpu": "100m"}}, {"cpu": "50m"}, {},
            ["minimum cpu usage per Container is 100m, but request is 50m"], id="below-min",
        ),
        pytest.param(
            {"min": {"cpu": "100m"}}, {}, {},
            ["minimum cpu usage per Container is 100m.  No request is specified"], id="no-request",
        ),
        pytest.param(
            {"max": {"memory": "1Gi"}}, {}, {"memory": "2Gi"},
            ["maximum memory usage per Container is 1Gi, but limit is 2Gi"], id="above-max",
        ),
        pytest.param(
            {"max": {"memory": "1Gi"}}, {}, {},
            ["maximum memory usage per Container is 1Gi.  No limit is specified"], id="no-limit",
        ),
        pytest.param(
            {"maxLimitRequestRatio": {"cpu": "2"}}, {"cpu": "1"}, {"cpu": "3"},
            ["cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"], id="too-steep",
        ),
        pytest.param({"min": {"cpu": "1"}, "max": {"cpu": "2"}}, {"cpu": "1"}, {"cpu": "2"}, [], id="within"),
    ],
)  # fmt: skip
def test_bounds(item: dict[str, Any], requests: dict[str, str], limits: dict[str, str], found: list[str]) -> None:
    assert bounds(item, "Container", amounts(requests), amounts(limits)) == found


def test_a_bound_is_a_default_too() -> None:
    item = {"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Gi"}}
    assert defaults([item]) == ({"cpu": "2", "memory": "1Gi"}, {"cpu": "2"})


def test_bounds_of_a_whole_pod_and_of_a_claim() -> None:
    item = {"type": "Pod", "max": {"cpu": "1"}}
    resources = {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}
    two = pod({"name": "a", "resources": resources}, {"name": "b", "resources": resources})
    assert pod_faults(two, [item]) == ["maximum cpu usage per Pod is 1, but limit is 2"]
    claim = {"spec": {"resources": {"requests": {"storage": "5Gi"}}}}
    bound = {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}
    assert claim_faults(claim, [bound]) == [
        "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 5Gi"
    ]


def test_what_counts() -> None:
    running = usage("pods", pod(container("1")), NOW)
    assert running.amounts == {
        "count/pods": 1, "pods": 1, "cpu": 1, "requests.cpu": 1,
    }  # fmt: skip
    finished = usage("pods", {**pod(container("1")), "status": {"phase": "Succeeded"}}, NOW)
    assert finished.amounts == {"count/pods": 1}
    stuck = pod(container("1"))
    stuck["metadata"] |= {"deletionTimestamp": "2026-09-21T14:13:00Z", "deletionGracePeriodSeconds": 20}
    assert usage("pods", stuck, NOW).amounts == running.amounts
    assert usage("pods", stuck, NOW + 1).amounts == finished.amounts
    balancer = {"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}}
    assert usage("services", balancer, NOW).amounts == {
        "count/services": 1, "services": 1, "services.loadbalancers": 1, "services.nodeports": 2,
    }  # fmt: skip
    claim = {"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}}}
    of_class = "fast.storageclass.storage.k8s.io/requests.storage"
    assert usage("persistentvolumeclaims", claim, NOW).amounts[of_class] == 2**31
    assert kinds_of(["limits.cpu", "count/jobs.batch", "services.nodeports", "requests.storage", "secrets"]) == {
        "pods", "jobs.batch", "services", "persistentvolumeclaims", "secrets",
    }  # fmt: skip
    assert kinds_of(["gold.deviceclass.resource.k8s.io/devices"]) == {"resourceclaims.resource.k8s.io"}


def ask(device_class: str, count: int | None = None) -> dict[str, Any]:
    mode = {"allocationMode": "All"} if count is None else {"allocationMode": "ExactCount", "count": count}
    return {"deviceClassName": device_class, **mode}


@pytest.mark.parametrize(
    ("requests", "devices"),
    [
        pytest.param([{"exactly": ask("gold", 2)}, {"exactly": ask("gold", 1)}], {"gold": 3}, id="requests-add-up"),
        pytest.param(
            [{"exactly": ask("gold")}, {"exactly": ask("tin", 1)}], {"gold": 32, "tin": 1}, id="all-there-are"
        ),
        pytest.param(
            [{"firstAvailable": [ask("gold", 1), ask("tin", 4), ask("gold", 3)]}, {"exactly": ask("tin", 1)}],
            {"gold": 3, "tin": 5},
            id="the-most-of-any-alternative",
        ),
        pytest.param([{"exactly": {**ask("gold", 2), "allocationMode": "Some"}}], {"gold": 0}, id="unknown-mode"),
        pytest.param([], {}, id="nothing"),
    ],
)
def test_devices_of_a_claim(requests: list[dict[str, Any]], devices: dict[str, int]) -> None:
    claim = {"spec": {"devices": {"requests": requests}}}
    counted = {f"{name}.deviceclass.resource.k8s.io/devices": count for name, count in devices.items()}
    assert usage("resourceclaims.resource.k8s.io", claim, NOW).amounts == {
        "count/resourceclaims.resource.k8s.io": 1, **counted,
    }  # fmt: skip


ELSEWHERE = {
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"namespaceSelector": {}, "topologyKey": "zone"}}
        ]
    }
}


@pytest.mark.parametrize(
    ("spec", "obj", "counted"),
    [
        pytest.param({}, pod(container("1")), True, id="no-scope"),
        pytest.param({"scopes": ["BestEffort"]}, pod(container("1")), False, id="not-best-effort"),
        pytest.param({"scopes": ["BestEffort"]}, pod({"name": "c"}), True, id="best-effort"),
        pytest.param({"scopes": ["Terminating"]}, pod(activeDeadlineSeconds=5), True, id="terminating"),
        pytest.param(
            {"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]},
            ]}},
            pod(priorityClassName="low"), False, id="another-class",
        ),
        pytest.param(
            {"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]},
            ]}},
            pod(), True, id="no-class",
        ),
        pytest.param({"scopes": ["CrossNamespacePodAffinity"]}, pod(affinity=ELSEWHERE), True, id="affinity-elsewhere"),
        pytest.param({"scopes": ["CrossNamespacePodAffinity"]}, pod(), False, id="no-affinity"),
        pytest.param({"scopes": ["VolumeAttributesClass"]}, pod(), False, id="a-scope-of-claims"),
    ],
)  # fmt: skip
def test_scopes(spec: dict[str, Any], obj: Object, counted: bool) -> None:
    assert covers(spec, usage("pods", obj, NOW).scopes) is counted


def test_a_compute_quota_wants_to_know() -> None:
    found = unspecified(pod(container("1"), {"name": "d"}), ["requests.cpu", "limits.memory", "pods"])
    assert found == ["limits.memory for: c,d", "requests.cpu for: d"]
    assert unspecified(pod({"name": "d"}, resources={"requests": {"cpu": "1"}}), ["requests.cpu"]) == []


def create(name: str, *containers: dict[str, Any]) -> Attributes:
    return Attributes(
        user=Identity("ann"), verb="create", resource="pods", row=PODS, namespace="d", operation="CREATE",
        object=pod(*containers, name=name),
    )  # fmt: skip


async def test_admitted_writes_count_until_they_are_seen_or_given_up() -> None:
    lookup, clock = MemoryLookup(), FixedClock()
    lookup.put(RESOURCEQUOTAS, {"metadata": {"name": "q", "namespace": "d"}, "spec": {"hard": {"requests.cpu": "2"}}})
    plugin = ResourceQuota(lookup, ResourceTable(), clock)
    await plugin.validate(create("a", container("1")))
    await plugin.validate(create("b", container("1")))
    with pytest.raises(Forbidden) as refused:
        await plugin.validate(create("c", container("500m")))
    assert str(refused.value) == (
        'pods "c" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=2, '
        "limited: requests.cpu=2"
    )
    with pytest.raises(Forbidden, match=r"failed quota: q: must specify requests\.cpu for: c"):
        await plugin.validate(create("c", {"name": "c"}))
    lookup.put(PODS, pod(container("1"), name="a"))
    clock.advance(ADMITTED_S + 1)  # b was never written
    await plugin.validate(create("c", container("1")))
    with pytest.raises(Forbidden):
        await plugin.validate(create("d", container("1")))
