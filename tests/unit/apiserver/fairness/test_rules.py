"""Which flow a request belongs to: the schemas of every cluster, and the rules one by one."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.kinds.flowcontrol_bootstrap import (
    MANDATORY_LEVELS,
    MANDATORY_SCHEMAS,
    SUGGESTED_LEVELS,
    SUGGESTED_SCHEMAS,
)
from orchestrator.api.meta import Object
from orchestrator.api.wire import Identity
from orchestrator.apiserver.fairness.levels import Levels
from orchestrator.apiserver.fairness.rules import FlowSchema
from orchestrator.apiserver.request import RequestInfo, parse

AUTHENTICATED = "system:authenticated"
NODE = Identity("system:node:n1", ("system:nodes", AUTHENTICATED))
MANAGER = Identity("system:kube-controller-manager", (AUTHENTICATED,))
CONTROLLER = Identity("system:serviceaccount:kube-system:job-controller", ("system:serviceaccounts", AUTHENTICATED))
WORKLOAD = Identity("system:serviceaccount:team:operator", ("system:serviceaccounts", AUTHENTICATED))
ADMIN = Identity("admin", ("system:masters", AUTHENTICATED))
PERSON = Identity("jane", (AUTHENTICATED,))
NOBODY = Identity("system:anonymous", ("system:unauthenticated",))
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"
PODS = "/api/v1/namespaces/team/pods"


def of_every_cluster() -> Levels:
    levels = Levels(600, 0.0)
    levels.digest((*SUGGESTED_SCHEMAS, *MANDATORY_SCHEMAS), (*SUGGESTED_LEVELS, *MANDATORY_LEVELS), 0.0)
    return levels


@pytest.mark.parametrize(
    ("user", "method", "path", "schema", "distinguisher"),
    [
        (ADMIN, "GET", PODS, "exempt", ""),
        (NOBODY, "GET", "/readyz/ping", "probes", ""),
        (NOBODY, "GET", "/version", "global-default", "system:anonymous"),
        (NODE, "PUT", LEASE, "system-node-high", NODE.name),
        (NODE, "PATCH", "/api/v1/nodes/n1/status", "system-node-high", NODE.name),
        (NODE, "GET", PODS, "system-nodes", NODE.name),
        (MANAGER, "PUT", LEASE, "system-leader-election", MANAGER.name),
        (CONTROLLER, "PUT", LEASE, "system-leader-election", CONTROLLER.name),
        (MANAGER, "PATCH", LEASE, "kube-controller-manager", "kube-node-lease"),
        (MANAGER, "GET", PODS, "kube-controller-manager", "team"),
        (CONTROLLER, "GET", PODS, "kube-system-service-accounts", "team"),
        (WORKLOAD, "GET", PODS, "service-accounts", WORKLOAD.name),
        (PERSON, "GET", PODS, "global-default", "jane"),
        (Identity("odd", ()), "GET", PODS, "catch-all", ""),
    ],
)
def test_schemas_of_every_cluster(user: Identity, method: str, path: str, schema: str, distinguisher: str) -> None:
    flow = of_every_cluster().flow(user, parse(method, path, []))
    assert (flow.schema.name, flow.distinguisher) == (schema, distinguisher)


def rule(**more: Any) -> dict[str, Any]:
    return {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], **more}


def schema(name: str, precedence: int, level: str = "global-default", **rules: Any) -> Object:
    subjects = rules.pop("subjects", [{"kind": "User", "user": {"name": "*"}}])
    spec = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [{"subjects": subjects, **rules}],
    }
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": spec}


@pytest.mark.parametrize(
    ("one", "path", "is_matched"),
    [
        (rule(), PODS, True),
        (rule(), "/api/v1/nodes", False),
        (rule(clusterScope=True), "/api/v1/nodes", True),
        (rule(namespaces=["other"]), PODS, False),
        (rule(namespaces=["team"]), PODS, True),
        (rule(namespaces=["team"], clusterScope=True), "/api/v1/pods", True),
        (rule(resources=["pods"]), f"{PODS}/a/status", False),
        (rule(resources=["pods/status"]), f"{PODS}/a/status", True),
        (rule(apiGroups=["apps"]), PODS, False),
        (rule(apiGroups=[""]), PODS, True),
        (rule(verbs=["get", "watch"]), PODS, False),
    ],
)
def test_resource_rules(one: dict[str, Any], path: str, is_matched: bool) -> None:
    found = FlowSchema.of(schema("s", 1, resourceRules=[one]))
    assert found.matches(PERSON, parse("GET", path, [])) is is_matched


@pytest.mark.parametrize(
    ("url", "path", "is_matched"),
    [
        ("*", "/anything", True),
        ("/healthz", "/healthz", True),
        ("/healthz", "/healthz/etcd", True),
        ("/healthz/*", "/healthz/etcd", True),
        ("/health", "/healthz", False),
        ("/metrics", "/version", False),
    ],
)
def test_path_rules(url: str, path: str, is_matched: bool) -> None:
    found = FlowSchema.of(schema("s", 1, nonResourceRules=[{"verbs": ["get"], "nonResourceURLs": [url]}]))
    assert found.matches(PERSON, RequestInfo("get", path)) is is_matched


@pytest.mark.parametrize(
    ("subject", "is_matched"),
    [
        ({"kind": "Group", "group": {"name": "*"}}, True),
        ({"kind": "Group", "group": {"name": "system:serviceaccounts"}}, True),
        ({"kind": "User", "user": {"name": "operator"}}, False),
        ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "team", "name": "*"}}, True),
        ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "te", "name": "*"}}, False),
        ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "team", "name": "operator"}}, True),
        ({"kind": "ServiceAccount", "serviceAccount": {"namespace": "team", "name": "oper"}}, False),
    ],
)
def test_subjects(subject: dict[str, Any], is_matched: bool) -> None:
    found = FlowSchema.of(schema("s", 1, resourceRules=[rule()], subjects=[subject]))
    assert found.matches(WORKLOAD, parse("GET", PODS, [])) is is_matched


def test_the_lower_precedence_goes_first_then_the_name() -> None:
    levels = Levels(600, 0.0)
    own = [schema("b", 500, resourceRules=[rule()]), schema("a", 500, resourceRules=[rule()])]
    levels.digest([*own, schema("late", 600, resourceRules=[rule()])], SUGGESTED_LEVELS, 0.0)
    assert levels.flow(PERSON, parse("GET", PODS, [])).schema.name == "a"


def test_a_schema_that_changes_is_felt_at_once() -> None:
    levels, asked = of_every_cluster(), parse("GET", PODS, [])
    before = levels.flow(PERSON, asked)
    assert levels.flow(PERSON, asked) is before
    mine = schema("mine", 2, "workload-high", resourceRules=[rule()])
    levels.digest([*SUGGESTED_SCHEMAS, mine], SUGGESTED_LEVELS, 1.0)
    after = levels.flow(PERSON, asked)
    assert (after.schema.name, after.level.name) == ("mine", "workload-high")
    assert after.headers["x-kubernetes-pf-flowschema-uid"] == "uid-mine"


def test_a_schema_without_its_level_is_left_out_and_says_so() -> None:
    levels = Levels(600, 0.0)
    lost = schema("lost", 2, "nowhere", resourceRules=[rule()])
    levels.digest([lost], (), 0.0)
    assert levels.flow(PERSON, parse("GET", PODS, [])).schema.name == "catch-all"
    condition = levels.conditions([lost])["lost"]
    assert (condition.status, condition.reason) == ("True", "NotFound")
    assert condition.message == (
        'This FlowSchema references the PriorityLevelConfiguration object named "nowhere" but there is no such object'
    )
    told = {"type": "Dangling", "status": "True", "reason": "NotFound", "message": condition.message}
    assert levels.conditions([lost | {"status": {"conditions": [told]}}]) == {}
