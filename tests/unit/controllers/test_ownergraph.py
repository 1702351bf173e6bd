from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.meta import Object
from orchestrator.api.resources import CONFIGMAPS, PODS, REPLICASETS, Resource
from orchestrator.controllers.ownergraph import (
    Delete,
    FinishForeground,
    Node,
    OwnerGraph,
    ReleaseOwners,
    Unblock,
    judge,
    judge_foreground,
)


def obj(
    uid: str,
    owners: tuple[str, ...] = (),
    *,
    deleting: bool = False,
    finalizers: tuple[str, ...] = (),
    ns: str = "shop",
) -> Object:
    described: dict[str, Any] = {"name": uid, "namespace": ns, "uid": uid, "finalizers": list(finalizers)}
    described["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "X", "name": each, "uid": each, "blockOwnerDeletion": True} for each in owners
    ]
    if deleting:
        described["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": described}


def observed(*rows: tuple[Resource, Object]) -> OwnerGraph:
    graph = OwnerGraph()
    for resource, each in rows:
        graph.observe(resource, each)
    return graph


def test_an_owner_that_was_never_seen_is_looked_for() -> None:
    graph = OwnerGraph()
    assert graph.observe(PODS, obj("pod", ("rs",))).delete == ["pod"]
    owner = graph.get("rs")
    assert owner is not None and owner.is_virtual
    assert graph.observe(REPLICASETS, obj("rs")).delete == []
    assert not owner.is_virtual


def test_the_end_of_an_owner_brings_its_dependents_up_and_the_last_of_them_its_place() -> None:
    graph = observed((REPLICASETS, obj("rs")), (PODS, obj("a", ("rs",))), (PODS, obj("b", ("rs",))))
    assert graph.forget("rs").delete == ["a", "b"]
    graph.forget("a")
    graph.forget("b")
    assert len(graph) == 0


def test_foreground_deletion_waits_for_what_blocks_it() -> None:
    graph = observed((REPLICASETS, obj("rs")), (PODS, obj("a", ("rs",))))
    assert graph.observe(REPLICASETS, obj("rs", deleting=True, finalizers=("foregroundDeletion",))).delete == [
        "a",
        "rs",
    ]
    owner = graph.get("rs")
    assert owner is not None
    assert judge_foreground(owner) == (None, ["a"])
    assert graph.forget("a").delete == ["rs"]
    assert judge_foreground(owner) == (FinishForeground(), [])


def test_orphaning_is_noticed_once() -> None:
    graph = observed((REPLICASETS, obj("rs")))
    deleting = obj("rs", deleting=True, finalizers=("orphan",))
    assert graph.observe(REPLICASETS, deleting).orphan == ["rs"]
    assert graph.observe(REPLICASETS, deleting).orphan == []


def test_an_owner_in_another_namespace_is_none() -> None:
    graph = observed((CONFIGMAPS, obj("owner", ns="other")))
    assert graph.observe(PODS, obj("pod", ("owner",))).delete == ["pod"]


def circle() -> Node:
    graph = observed(
        (PODS, obj("a", ("b",))), (PODS, obj("b", ("a",), deleting=True, finalizers=("foregroundDeletion",)))
    )
    found = graph.get("a")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("owners", "finalizers", "dangling", "waiting", "want"),
    [
        pytest.param((), (), set(), set(), None, id="no-owners"),
        pytest.param(("x",), (), set(), set(), None, id="owner-lives"),
        pytest.param(("x",), (), {"x"}, set(), Delete("Background"), id="owner-gone"),
        pytest.param(("x", "y"), (), {"x"}, set(), ReleaseOwners(frozenset({"x"})), id="one-of-two-gone"),
        pytest.param(("x",), ("orphan",), {"x"}, set(), Delete("Orphan"), id="asked-to-orphan"),
        pytest.param(("x",), (), set(), {"x"}, Delete("Background"), id="owner-waits-for-a-leaf"),
    ],
)
def test_judge(
    owners: tuple[str, ...], finalizers: tuple[str, ...], dangling: set[str], waiting: set[str], want: object
) -> None:
    node = Node("u", PODS, "shop", "p")
    references = obj("u", owners)["metadata"]["ownerReferences"]
    assert judge(node, references, finalizers, dangling, waiting) == want


def test_a_circle_of_owners_is_broken() -> None:
    node = circle()
    assert judge(node, node.owners, (), set(), {"b"}) == Unblock()
