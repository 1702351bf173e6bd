"""Binding, eviction and tokens: the subresources that the server answers itself."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.api import conditions, meta
from orchestrator.api.clock import FixedClock
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES, PODDISRUPTIONBUDGETS, PODS, SERVICEACCOUNTS, Resource
from orchestrator.api.status import ApiError, BadRequest, Conflict, InternalError, Invalid, NotFound, TooManyRequests
from orchestrator.api.wire import Identity, Request
from orchestrator.apiserver.authn.jwt import KeySet, Signer
from orchestrator.apiserver.authn.serviceaccount import ServiceAccountTokens, TokenIssuer, TokenSettings
from orchestrator.apiserver.handlers import Call
from orchestrator.apiserver.lookup import MemoryLookup
from orchestrator.apiserver.request import Attributes, RequestInfo
from orchestrator.apiserver.strategies.binding import PodBinding
from orchestrator.apiserver.strategies.eviction import PodEviction
from orchestrator.apiserver.strategies.rewrite import MemoryRewriter
from orchestrator.apiserver.strategies.token import TokenRequests

CLOCK = FixedClock()


def call(obj: Object, name: str = "web", namespace: str = "d", **more: Any) -> Call:
    attributes = Attributes(
        user=Identity("ann"), verb="create", namespace=namespace, name=name, object=obj, operation="CREATE", **more
    )
    info = RequestInfo("create", "/", True, name=name, namespace=namespace)
    return Call(Request("POST", "/"), info, attributes, None)  # type: ignore[arg-type]


def pod(ready: bool = True, phase: str = "Running", **spec: Any) -> Object:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "metadata": {"name": "web", "namespace": "d", "uid": "u1", "labels": {"app": "web"}},
        "spec": {"serviceAccountName": "build", **spec},
        "status": {"phase": phase, "conditions": [condition]},
    }


def binding(node: str = "n1", **metadata: Any) -> Object:
    return {"metadata": {"name": "web", **metadata}, "target": {"kind": "Node", "name": node}}


async def test_a_pod_is_bound_once() -> None:
    rewriter = MemoryRewriter()
    rewriter.objects["pods", "d", "web"] = pod()
    handler = PodBinding(rewriter, CLOCK).bind
    answer = await handler(call(binding(annotations={"a": "b"})))
    assert isinstance(answer, dict) and answer["status"] == "Success"
    stored = rewriter.objects["pods", "d", "web"]
    assert stored["spec"]["nodeName"] == "n1"
    assert meta.annotations(stored) == {"a": "b"}
    assert conditions.is_true(stored, "PodScheduled")
    with pytest.raises(Conflict) as refused:
        await handler(call(binding("n2")))
    assert str(refused.value) == (
        'Operation cannot be fulfilled on pods/binding "web": pod web is already assigned to node "n1"'
    )


@pytest.mark.parametrize(
    ("stored", "wanted", "kind"),
    [
        pytest.param(pod(schedulingGates=[{"name": "g"}]), binding(), Conflict, id="gated"),
        pytest.param(pod(), binding(uid="other"), Conflict, id="another-uid"),
        pytest.param(pod(), binding(""), Invalid, id="no-node"),
        pytest.param(
            {**pod(), "metadata": {**pod()["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}},
            binding(),
            Conflict,
            id="going-away",
        ),
    ],
)
async def test_what_cannot_be_bound(stored: Object, wanted: Object, kind: type[ApiError]) -> None:
    rewriter = MemoryRewriter()
    rewriter.objects["pods", "d", "web"] = stored
    with pytest.raises(kind):
        await PodBinding(rewriter, CLOCK).bind(call(wanted))


class Deletions:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int | None]] = []

    async def delete(
        self, resource: Resource, name: str, namespace: str, *, grace_period_s: int | None, uid: str | None
    ) -> Object:
        self.seen.append((name, grace_period_s))
        return {}


class Evicting:
    def __init__(self, obj: Object, *budgets: Object) -> None:
        lookup = MemoryLookup()
        self.rewriter = MemoryRewriter()
        self.rewriter.objects["pods", "d", "web"] = lookup.put(PODS, obj)
        for budget in budgets:
            place = ("poddisruptionbudgets.policy", "d", meta.name(budget))
            self.rewriter.objects[place] = lookup.put(PODDISRUPTIONBUDGETS, budget)
        self.deletions = Deletions()
        self.handler = PodEviction(self.rewriter, self.deletions, lookup, CLOCK).evict

    async def evict(self, **more: Any) -> None:
        await self.handler(call({"metadata": {"name": "web"}, "deleteOptions": {"gracePeriodSeconds": 5}}, **more))


def budget(name: str = "pdb", allowed: int = 0, spec: dict[str, Any] | None = None, **status: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "d", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **(spec or {})},
        "status": {
            "disruptionsAllowed": allowed,
            "observedGeneration": 1,
            "desiredHealthy": 2,
            "currentHealthy": 2,
            **status,
        },
    }


async def test_a_budget_is_spent_and_then_refuses() -> None:
    world = Evicting(pod(), budget(allowed=1))
    await world.evict()
    assert world.deletions.seen == [("web", 5)]
    status = world.rewriter.objects["poddisruptionbudgets.policy", "d", "pdb"]["status"]
    assert status["disruptionsAllowed"] == 0 and "web" in status["disruptedPods"]
    assert conditions.is_true(world.rewriter.objects["pods", "d", "web"], "DisruptionTarget")
    with pytest.raises(TooManyRequests) as refused:
        await world.evict()
    assert str(refused.value) == "Cannot evict pod as it would violate the pod's disruption budget."
    assert refused.value.causes[0].message == "The disruption budget pdb needs 2 healthy pods and has 2 currently"


@pytest.mark.parametrize(
    ("obj", "budgets", "goes"),
    [
        pytest.param(pod(), [], True, id="no-budget"),
        pytest.param(pod(phase="Pending"), [budget()], True, id="does-not-run"),
        pytest.param(pod(ready=False), [budget()], True, id="not-ready-and-others-are-healthy"),
        pytest.param(pod(ready=False), [budget(currentHealthy=1)], False, id="not-ready-but-others-are-not-healthy"),
        pytest.param(
            pod(ready=False),
            [budget(currentHealthy=1, spec={"unhealthyPodEvictionPolicy": "AlwaysAllow"})],
            True,
            id="not-ready-and-the-budget-does-not-mind",
        ),
        pytest.param(pod(), [budget(allowed=1, observedGeneration=0)], False, id="budget-not-yet-computed"),
        pytest.param(pod(), [budget(spec={"selector": {"matchLabels": {"a": "b"}}})], True, id="of-other-pods"),
    ],
)
async def test_who_may_be_evicted(obj: Object, budgets: list[Object], goes: bool) -> None:
    world = Evicting(obj, *budgets)
    if goes:
        await world.evict()
    else:
        with pytest.raises(TooManyRequests):
            await world.evict()
    assert bool(world.deletions.seen) is goes


async def test_two_budgets_are_one_too_many_and_a_dry_run_spends_nothing() -> None:
    with pytest.raises(InternalError):
        await Evicting(pod(), budget(), budget("other")).evict()
    world = Evicting(pod(), budget(allowed=1))
    await world.evict(dry_run=True)
    assert world.deletions.seen == []
    assert world.rewriter.objects["poddisruptionbudgets.policy", "d", "pdb"]["status"]["disruptionsAllowed"] == 1


def tokens() -> tuple[TokenRequests, ServiceAccountTokens]:
    lookup = MemoryLookup()
    lookup.put(SERVICEACCOUNTS, {"metadata": {"name": "build", "namespace": "d", "uid": "sa"}})
    lookup.put(NODES, {"metadata": {"name": "n1", "uid": "n"}})
    lookup.put(PODS, pod(nodeName="n1"))
    signer = Signer(ec.generate_private_key(ec.SECP256R1()))
    requests = TokenRequests(TokenIssuer(signer, TokenSettings()), lookup, CLOCK, lambda: "id")
    return requests, ServiceAccountTokens(KeySet([signer.public_key]), TokenSettings(), lookup, CLOCK)


async def test_a_token_bound_to_a_pod_is_accepted() -> None:
    requests, verifier = tokens()
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u1"}
    answer = await requests.create(call({"spec": {"boundObjectRef": reference, "expirationSeconds": 3607}}, "build"))
    assert answer["status"]["expirationTimestamp"] == meta.format_time(CLOCK.now() + 3607)
    identity, _ = verifier.identity(answer["status"]["token"])
    assert identity.name == "system:serviceaccount:d:build"
    assert identity.extra["authentication.kubernetes.io/node-name"] == ("n1",)


@pytest.mark.parametrize(
    ("name", "spec", "kind"),
    [
        pytest.param("none", {}, NotFound, id="no-account"),
        pytest.param("build", {"expirationSeconds": 599}, Invalid, id="too-short"),
        pytest.param("build", {"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1"}}, BadRequest, id="kind"),
        pytest.param(
            "build",
            {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "x"}},
            Conflict,
            id="another-uid",
        ),
        pytest.param(
            "build", {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "gone"}}, NotFound, id="no-pod"
        ),
    ],
)
async def test_a_token_that_is_not_given(name: str, spec: dict[str, Any], kind: type[ApiError]) -> None:
    with pytest.raises(kind):
        await tokens()[0].create(call({"spec": spec}, name))
