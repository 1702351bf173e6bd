"""The default roles hold what kube-apiserver v1.36.3 gives them (recorded, with its default feature gates)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.apiserver.authz import bootstrap

RECORDED: dict[str, list[dict[str, Any]]] = orjson.loads((Path(__file__).parent / "cases/roles.json").read_bytes())
OURS = {role["metadata"]["name"]: role["rules"] for role in bootstrap.cluster_roles()}
Right = tuple[str, ...]

# What ours may do beyond: the scheduler reads what upstream's does through another role, or not at all; the cluster's
# DNS and the controller of EndpointSlices look and write by the kinds that upstream's programs are given elsewhere.
MORE: dict[str, set[tuple[str, str]]] = {
    "system:kube-scheduler": {
        ("scheduling.k8s.io", "priorityclasses"),
        ("storage.k8s.io", "storageclasses"),
        ("", "persistentvolumes"),
        ("", "persistentvolumeclaims"),
    },
    "system:kube-dns": {("discovery.k8s.io", "endpointslices")},
    "system:controller:endpointslice-controller": {("discovery.k8s.io", "endpointslices/restricted")},
}


def rights(rules: list[dict[str, Any]]) -> Iterator[Right]:
    """One by one; not those on the group `extensions`, which is served no more."""
    for rule in rules:
        for verb in rule["verbs"]:
            yield from ((verb, url) for url in rule.get("nonResourceURLs", ()))
            for group in rule.get("apiGroups", ()):
                for resource in rule.get("resources", ()) if group != "extensions" else ():
                    for name in rule.get("resourceNames") or ("",):
                        yield verb, group, resource, name


@pytest.mark.parametrize("name", RECORDED)
def test_a_default_role(name: str) -> None:
    ours, theirs = set(rights(OURS[name])), set(rights(RECORDED[name]))
    assert theirs <= ours
    assert {(right[1], right[2]) for right in ours - theirs} <= MORE.get(name, set())
