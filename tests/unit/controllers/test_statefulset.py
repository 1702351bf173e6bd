"""StatefulSets: which pods go when there are to be fewer."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.controllers.statefulset_plan import DeletePod, Observed, Revision, plan
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
