from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api import volumes
from orchestrator.api.meta import Object
from orchestrator.controllers.attachdetach_plan import (
    UNMOUNT_PATIENCE_S,
    Action,
    Attach,
    Detach,
    Refuse,
    Seen,
    Wait,
    is_ours,
    plan,
    refusal,
    reported,
    uses_volumes,
)
from tests.unit.controllers.objects import node, pod

NAME = "kubernetes.io/csi/disk.sampan.dev^vol-1"


def volume(*modes: str, name: str = "pv", deleting: bool = False) -> Object:
    found: Object = {
        "metadata": {"name": name},
        "spec": {
            "accessModes": list(modes or ("ReadWriteOnce",)),
            "csi": {"driver": "disk.sampan.dev", "volumeHandle": "vol-1"},
        },
    }
    if deleting:
        found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return found


def attachment(on: str, *, deleting: bool = False) -> Object:
    found: Object = {"metadata": {"name": f"csi-{on}", "uid": on}, "spec": {"nodeName": on}}
    if deleting:
        found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return found


def machine(name: str = "n1", *, ready: str = "True", in_use: bool = False, taint: str = "") -> Object:
    found = node(name)
    found["status"] = {"conditions": [{"type": "Ready", "status": ready}]}
    if in_use:
        found["status"]["volumesInUse"] = [NAME]
    if taint:
        found.setdefault("spec", {})["taints"] = [{"key": taint, "effect": "NoExecute"}]
    return found


A, B = pod("a", node="n1", age_s=20), pod("b", node="n2", age_s=10)
ON_1 = attachment("n1")


def seen(
    wanted: dict[str, tuple[Object, ...]],
    *attachments: Object,
    of: Object | None = None,
    nodes: Any = (),
    for_s: float = 0,
) -> Seen:
    there = {each["metadata"]["name"]: each for each in nodes or [machine("n1"), machine("n2")]}
    return Seen(of or volume(), wanted, attachments, there, {"n1": for_s})


@pytest.mark.parametrize(
    ("what", "actions"),
    [
        pytest.param(seen({"n1": (A,)}), [Attach("n1")], id="a-pod-wants-it"),
        pytest.param(seen({"n1": (A,)}, ON_1), [], id="it-is-there"),
        pytest.param(seen({"n1": (A,)}, attachment("n1", deleting=True)), [], id="it-must-go-before-it-comes-back"),
        pytest.param(seen({}, ON_1), [Detach("n1")], id="nobody-wants-it"),
        pytest.param(seen({}, attachment("n1", deleting=True)), [], id="it-goes-already"),
        pytest.param(seen({}, ON_1, nodes=[machine(in_use=True)]), [Wait("n1", None)], id="the-kubelet-still-has-it"),
        pytest.param(
            seen({}, ON_1, nodes=[machine(in_use=True, ready="Unknown")], for_s=60),
            [Wait("n1", UNMOUNT_PATIENCE_S - 60)],
            id="a-silent-node-is-given-time",
        ),
        pytest.param(
            seen({}, ON_1, nodes=[machine(in_use=True, ready="Unknown")], for_s=361),
            [Detach("n1", is_forced=True)],
            id="and-then-no-more",
        ),
        pytest.param(
            seen({}, ON_1, nodes=[machine(in_use=True)], for_s=10_000),
            [Wait("n1", None)],
            id="a-healthy-node-always-is",
        ),
        pytest.param(
            seen({}, ON_1, nodes=[machine(in_use=True, ready="False", taint="node.kubernetes.io/out-of-service")]),
            [Detach("n1", is_forced=True)],
            id="out-of-service",
        ),
        pytest.param(seen({}, ON_1, nodes=[machine("other")]), [Detach("n1")], id="the-node-is-no-more"),
        pytest.param(seen({"n2": (B,)}, ON_1), [Detach("n1"), Refuse("n2", ())], id="it-moves-one-step-at-a-time"),
        pytest.param(seen({"n1": (A,), "n2": (B,)}, ON_1), [Refuse("n2", (A,))], id="two-nodes-want-one-disk"),
        pytest.param(seen({"n2": (B,), "n1": (A,)}), [Attach("n1"), Refuse("n2", (A,))], id="the-older-pod-is-first"),
        pytest.param(
            seen({"n1": (A,), "n2": (B,)}, ON_1, of=volume("ReadWriteMany")), [Attach("n2")], id="what-may-be-shared"
        ),
        pytest.param(seen({"n1": (A,)}, of=volume(deleting=True)), [], id="of-a-volume-that-goes-nothing-new"),
    ],
)
def test_plan(what: Seen, actions: list[Action]) -> None:
    assert plan(what) == actions


def test_a_volume_that_is_gone_is_detached_wherever_it_is() -> None:
    assert plan(Seen(None, {}, (ON_1,), {"n1": machine(in_use=True)}, {})) == [Detach("n1")]


def test_only_what_is_wanted_or_in_use_is_reported_as_attached() -> None:
    entry = [{"name": NAME, "devicePath": ""}]
    assert reported(machine(), [volume()], {"pv"}) == entry
    assert reported(machine(in_use=True), [volume()], set()) == entry
    assert reported(machine(), [volume()], set()) == []


def state(**what: Any) -> list[dict[str, Any]]:
    return [{"name": "c", "state": what}]


@pytest.mark.parametrize(
    ("of", "uses"),
    [
        pytest.param(pod(), True, id="it-runs"),
        pytest.param(pod(phase="Succeeded"), False, id="it-has-ended"),
        pytest.param(
            {**pod(deleting=True), "status": {"containerStatuses": state(running={})}}, True, id="it-is-ending"
        ),
        pytest.param(
            {**pod(deleting=True), "status": {"containerStatuses": state(terminated={})}}, False, id="ended-so"
        ),
        pytest.param({**pod(deleting=True), "status": {}}, False, id="it-never-began"),
    ],
)
def test_uses_volumes(of: Object, uses: bool) -> None:
    assert uses_volumes(of) is uses


def elsewhere(name: str, namespace: str = "shop") -> Object:
    return {"metadata": {"name": name, "namespace": namespace}}


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ([], "Volume is already exclusively attached to one node and can't be attached to another"),
        ([elsewhere("a"), elsewhere("b")], "Volume is already used by pod(s) a, b"),
        (
            [elsewhere("a"), elsewhere("x", "y")],
            "Volume is already used by pod(s) a and 1 pod(s) in different namespaces",
        ),
        ([elsewhere("x", "y")], "Volume is already used by 1 pod(s) in different namespaces"),
    ],
)
def test_refusal_names_only_pods_that_the_reader_may_see(others: list[Object], why: str) -> None:
    assert refusal("pv", pod(), others) == f'Multi-Attach error for volume "pv" {why}'


OURS = volumes.attachment_name("vol-1", "disk.sampan.dev", "n1")


@pytest.mark.parametrize(
    ("name", "of", "expected"),
    [
        pytest.param(OURS, volume(), True, id="named-by-the-controller"),
        pytest.param("va-e2e", volume(), False, id="made-by-somebody-else"),
        pytest.param(volumes.attachment_name("vol-1", "disk.sampan.dev", "n2"), volume(), False, id="another-node"),
        pytest.param(OURS, None, True, id="the-volume-is-gone"),
        pytest.param("va-e2e", None, False, id="of-a-volume-that-never-was"),
    ],
)
def test_an_attachment_is_the_controllers_by_its_name(name: str, of: Object | None, expected: bool) -> None:
    made: Object = {"metadata": {"name": name}, "spec": {"nodeName": "n1"}}
    assert is_ours(made, of) is expected
