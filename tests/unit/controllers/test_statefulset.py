"""StatefulSets: which pods go when there are to be fewer."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.controllers.statefulset_plan import DeletePod, Observed, Revision, owners_of_claim, plan
from tests.unit.controllers.objects import NOW, pod


def observed(states: list[str], wanted: int = 0, policy: str = "OrderedReady") -> Observed:
    """Pods by ordinal: `ready`, `unready`, `starting` (not ready for long enough) or `leaving`."""
    revision = Revision("ss-1", {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}})
    owner: Object = {
        "metadata": {"name": "ss", "namespace": "shop", "uid": "1"},
        "spec": {"replicas": wanted, "podManagementPolicy": policy, "minReadySeconds": 10, "template": {}},
    }
    made: dict[str, dict[str, Any]] = {
        "ready": {}, "unready": {"ready": False}, "starting": {"ready_for_s": 1}, "leaving": {"deleting": True},
    }  # fmt: skip
    labels = {"app": "web", "controller-revision-hash": "ss-1"}
    pods = tuple(pod(f"ss-{index}", labels=labels, **made[state]) for index, state in enumerate(states))
    return Observed(owner, pods, revision, revision, NOW)


@pytest.mark.parametrize(
    ("seen", "gone"),
    [
        pytest.param(observed(["ready", "ready", "ready"]), ["ss-2"], id="the-last-first"),
        pytest.param(observed(["ready", "ready", "unready"]), ["ss-2"], id="the-only-one-that-is-unready"),
        pytest.param(observed(["unready", "unready", "unready"]), [], id="not-while-one-before-it-is-unready"),
        pytest.param(observed(["ready", "unready", "starting"]), [], id="nor-when-it-is-not-ready-for-long"),
        pytest.param(observed(["unready", "ready", "ready"]), ["ss-2"], id="one-that-is-ready-goes"),
        pytest.param(observed(["ready", "ready", "leaving"]), [], id="one-at-a-time"),
        pytest.param(observed(["ready", "unready", "ready"], wanted=2), [], id="not-while-one-that-stays-is-unready"),
        pytest.param(
            observed(["unready", "unready", "leaving"], policy="Parallel"),
            ["ss-1", "ss-0"],
            id="parallel",
        ),
    ],
)
def test_scaling_down(seen: Observed, gone: list[str]) -> None:
    assert [meta.name(action.pod) for action in plan(seen) if isinstance(action, DeletePod)] == gone


SET: Object = {
    "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "ss", "namespace": "shop", "uid": "set"},
}  # fmt: skip
OF_SET = meta.owner_reference(SET)
OTHER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}
FOREIGN = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "unknown", "uid": "u", "controller": True}
STALE = {**OF_SET, "uid": "an earlier one"}


def of_pod(ordinal: int) -> Object:
    return meta.owner_reference(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"ss-{ordinal}", "uid": f"p{ordinal}"}}
    )


@pytest.mark.parametrize(
    ("policy", "ordinal", "references", "wanted"),
    [
        pytest.param({}, 0, [], None, id="it-is-kept"),
        pytest.param({}, 0, [OTHER, OF_SET], [OTHER], id="kept-from-now-on"),
        pytest.param({}, 0, [FOREIGN], None, id="kept-and-somebody-elses"),
        pytest.param({"whenDeleted": "Delete"}, 0, [OTHER], [OTHER, OF_SET], id="goes-with-the-set"),
        pytest.param({"whenDeleted": "Delete"}, 5, [of_pod(5)], [OF_SET], id="with-the-set-alone"),
        pytest.param({"whenDeleted": "Delete"}, 0, [OF_SET], None, id="as-it-should-be"),
        pytest.param({"whenDeleted": "Delete"}, 0, [FOREIGN], None, id="another-controller"),
        pytest.param({"whenDeleted": "Delete"}, 0, [FOREIGN, OF_SET], [FOREIGN], id="not-both"),
        pytest.param({"whenDeleted": "Delete"}, 0, [STALE], None, id="of-an-earlier-set"),
        pytest.param({"whenScaled": "Delete"}, 0, [of_pod(0)], [], id="its-pod-stays"),
        pytest.param({"whenScaled": "Delete"}, 2, [], [of_pod(2)], id="its-pod-goes"),
        pytest.param({"whenScaled": "Delete", "whenDeleted": "Delete"}, 2, [OF_SET], [of_pod(2)], id="both-and-goes"),
        pytest.param({"whenScaled": "Delete", "whenDeleted": "Delete"}, 1, [of_pod(1)], [OF_SET], id="both-and-stays"),
    ],
)
def test_who_owns_a_claim(
    policy: dict[str, str], ordinal: int, references: list[Object], wanted: list[Object] | None
) -> None:
    owner = {**SET, "spec": {"replicas": 2, "persistentVolumeClaimRetentionPolicy": policy}}
    held = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"ss-{ordinal}", "uid": f"p{ordinal}"}}
    claim = {"metadata": {"name": f"data-ss-{ordinal}", "ownerReferences": references}}
    assert owners_of_claim(owner, held, claim) == wanted
