"""Type checking of policies: the warnings that a genuine kube-controller-manager v1.36 wrote are ours, word for word.

The recorded names of structs are without the number that it puts into them. "undecided" are those that nothing or less
is said of here: optional values, and what maps that are written out hold.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api import schema
from orchestrator.api.cel import types
from orchestrator.api.cel.types import DYN, Type
from orchestrator.controllers.policystatus import Checked, resources_of, warnings

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "cases" / "typechecking.json").read_text())
TOY = {
    "type": "object",
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"allOf": [{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}]},
        "spec": {
            "type": "object",
            "properties": {
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "free": {"x-kubernetes-preserve-unknown-fields": True},
                "odd-name": {"type": "string"},
                "port": {"x-kubernetes-int-or-string": True},
                "size": {"type": "integer"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "when": {"type": "string", "format": "date-time"},
            },
        },
    },
}


def type_of(group: str, version: str, kind: str) -> Type:
    known = schema.definitions()
    text = TOY if kind == "Toy" else known.read(schema.definition_name(group, version, kind))
    made = types.of_schema(text, kind, lambda last: known.read(last) if last in known else None)
    assert made is not None
    return made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["kinds"][-1][2])
def test_the_warnings_are_those_of_kube_controller_manager(case: dict[str, Any]) -> None:
    kinds = [Checked(f"{group}/{version}, Kind={kind}", type_of(group, version, kind)) for group, version, kind in case["kinds"]]  # fmt: skip  # noqa: E501
    params = type_of("", "v1", "ConfigMap") if case["spec"].get("paramKind") else DYN
    undecided = case.get("undecided", ())
    found = {one["fieldRef"]: one["warning"] for one in warnings({"spec": case["spec"]}, kinds, params)}
    wanted = {one["fieldRef"]: one["warning"] for one in case["warnings"] if one["fieldRef"] not in undecided}
    assert {path: text for path, text in found.items() if path not in undecided} == wanted


def test_wildcards_and_subresources_are_not_checked() -> None:
    rules = [
        {"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["pods"]},
        {"apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["deployments"]},
        {"apiGroups": ["batch", "apps"], "apiVersions": ["v1"], "resources": ["*", "jobs/status", "jobs"]},
    ]
    policy = {"spec": {"matchConstraints": {"resourceRules": rules}}}
    assert resources_of(policy) == [("apps", "v1", "jobs"), ("batch", "v1", "jobs")]
