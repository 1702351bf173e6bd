"""What roles and bindings allow, and how a refusal reads."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.meta import Object
from orchestrator.api.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from orchestrator.api.status import Forbidden, NotFound
from orchestrator.api.wire import Identity
from orchestrator.apiserver.authz import bootstrap
from orchestrator.apiserver.authz.chain import AuthorizerChain
from orchestrator.apiserver.authz.escalation import EscalationCheck
from orchestrator.apiserver.authz.message import refusal
from orchestrator.apiserver.authz.rbac import Rbac
from orchestrator.apiserver.authz.reconcile import merged_binding, merged_role
from orchestrator.apiserver.authz.rules import Rule, missing
from orchestrator.apiserver.lookup import MemoryLookup
from orchestrator.apiserver.request import Attributes

ANN = Identity("ann", ("dev", "system:authenticated"))


def asked(verb: str, resource: str, user: Identity = ANN, **more: Any) -> Attributes:
    return Attributes(user=user, verb=verb, resource=resource, **more)


def role(name: str, *rules: dict[str, Any], namespace: str = "") -> Object:
    return {"metadata": {"name": name, "namespace": namespace}, "rules": list(rules)}


def binding(name: str, kind: str, to: str, *subjects: dict[str, str], namespace: str = "") -> Object:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"kind": kind, "name": to},
        "subjects": list(subjects),
    }


def with_bootstrap() -> tuple[MemoryLookup, AuthorizerChain, Rbac]:
    lookup = MemoryLookup()
    for resource, objects in (
        (CLUSTERROLES, bootstrap.cluster_roles()),
        (CLUSTERROLEBINDINGS, bootstrap.cluster_role_bindings()),
        (ROLES, bootstrap.roles()),
        (ROLEBINDINGS, bootstrap.role_bindings()),
    ):
        for obj in objects:
            lookup.put(resource, obj)
    rbac = Rbac(lookup)
    return lookup, AuthorizerChain([rbac]), rbac


PODS_READER = {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}


@pytest.mark.parametrize(
    ("rule", "question", "allowed"),
    [
        pytest.param(PODS_READER, asked("get", "pods"), True, id="listed"),
        pytest.param(PODS_READER, asked("delete", "pods"), False, id="another-verb"),
        pytest.param(PODS_READER, asked("get", "pods", group="apps"), False, id="another-group"),
        pytest.param(PODS_READER, asked("get", "pods", subresource="log"), True, id="subresource"),
        pytest.param(PODS_READER, asked("get", "pods", subresource="exec"), False, id="another-subresource"),
        pytest.param(
            PODS_READER | {"resources": ["*/scale"]},
            asked("get", "deployments", subresource="scale"),
            True,
            id="any-scale",
        ),
        pytest.param(PODS_READER | {"resources": ["*/scale"]}, asked("get", "deployments"), False, id="only-scale"),
        pytest.param(PODS_READER | {"resources": ["*"]}, asked("get", "pods", subresource="exec"), True, id="star"),
        pytest.param(PODS_READER | {"resourceNames": ["a"]}, asked("get", "pods", name="a"), True, id="its-name"),
        pytest.param(PODS_READER | {"resourceNames": ["a"]}, asked("get", "pods", name="b"), False, id="other-name"),
        pytest.param(PODS_READER | {"resourceNames": ["a"]}, asked("list", "pods"), False, id="no-name"),
        pytest.param(
            {"nonResourceURLs": ["/livez/*"], "verbs": ["get"]},
            Attributes(user=ANN, verb="get", path="/livez/ping", is_resource=False),
            True,
            id="path-below",
        ),
        pytest.param(
            {"nonResourceURLs": ["/livez"], "verbs": ["get"]},
            Attributes(user=ANN, verb="get", path="/livez/ping", is_resource=False),
            False,
            id="path-exact",
        ),
    ],
)
def test_one_rule(rule: dict[str, Any], question: Attributes, allowed: bool) -> None:
    assert Rule.from_json(rule).allows(question) is allowed
    lookup = MemoryLookup()
    lookup.put(CLUSTERROLES, role("r", rule))
    lookup.put(CLUSTERROLEBINDINGS, binding("b", "ClusterRole", "r", {"kind": "Group", "name": "dev"}))
    assert Rbac(lookup).authorize(question).allowed is allowed


def test_a_role_binding_reaches_its_namespace_only() -> None:
    lookup = MemoryLookup()
    lookup.put(CLUSTERROLES, role("reader", PODS_READER))
    lookup.put(ROLEBINDINGS, binding("b", "ClusterRole", "reader", {"kind": "User", "name": "ann"}, namespace="dev"))
    rbac = Rbac(lookup)
    assert rbac.authorize(asked("get", "pods", namespace="dev")).allowed
    assert not rbac.authorize(asked("get", "pods", namespace="prod")).allowed
    assert not rbac.authorize(asked("list", "pods")).allowed


def test_changes_count_at_once() -> None:
    lookup = MemoryLookup()
    rbac = Rbac(lookup)
    question = asked("get", "pods", namespace="dev")
    lookup.put(ROLEBINDINGS, binding("b", "Role", "reader", {"kind": "User", "name": "ann"}, namespace="dev"))
    missing_role = rbac.authorize(question)
    assert missing_role.reason == 'RBAC: role.rbac.authorization.k8s.io "reader" not found'
    lookup.put(ROLES, role("reader", PODS_READER, namespace="dev"))
    assert rbac.authorize(question).reason == 'RBAC: allowed by RoleBinding "b/dev" of Role "reader" to User "ann"'
    lookup.put(ROLEBINDINGS, binding("b", "Role", "reader", {"kind": "User", "name": "bob"}, namespace="dev"))
    assert not rbac.authorize(question).allowed
    lookup.put(ROLEBINDINGS, binding("c", "Role", "reader", {"kind": "Group", "name": "dev"}, namespace="dev"))
    assert rbac.authorize(question).allowed
    lookup.remove(ROLEBINDINGS, "dev", "c")
    assert not rbac.authorize(question).allowed


def test_a_service_account_is_bound_by_name() -> None:
    lookup = MemoryLookup()
    lookup.put(ROLES, role("reader", PODS_READER, namespace="dev"))
    subject = {"kind": "ServiceAccount", "name": "build"}
    lookup.put(ROLEBINDINGS, binding("b", "Role", "reader", subject, namespace="dev"))
    user = Identity("system:serviceaccount:dev:build")
    assert Rbac(lookup).authorize(asked("get", "pods", user, namespace="dev")).allowed


@pytest.mark.parametrize(
    ("question", "message"),
    [
        pytest.param(
            asked("list", "pods", namespace="default"),
            'pods is forbidden: User "ann" cannot list resource "pods" in API group "" in the namespace "default"',
            id="in-a-namespace",
        ),
        pytest.param(
            asked("get", "nodes", name="n1"),
            'nodes "n1" is forbidden: User "ann" cannot get resource "nodes" in API group "" at the cluster scope',
            id="of-the-cluster",
        ),
        pytest.param(
            asked("update", "deployments", group="apps", subresource="scale", namespace="d", name="w"),
            'deployments.apps "w" is forbidden: User "ann" cannot update resource "deployments/scale" in API group '
            '"apps" in the namespace "d"',
            id="subresource-of-a-group",
        ),
        pytest.param(
            Attributes(user=ANN, verb="get", path="/metrics", is_resource=False),
            'forbidden: User "ann" cannot get path "/metrics"',
            id="a-path",
        ),
    ],
)
def test_how_a_refusal_reads(question: Attributes, message: str) -> None:
    assert str(refusal(question)) == message


@pytest.mark.parametrize(
    ("user", "question", "allowed"),
    [
        ("system:kube-scheduler", {"verb": "create", "resource": "pods", "subresource": "binding"}, True),
        ("system:kube-scheduler", {"verb": "get", "resource": "secrets"}, False),
        ("system:kube-controller-manager", {"verb": "create", "resource": "pods"}, True),
        ("system:kube-controller-manager", {"verb": "create", "resource": "replicasets", "group": "apps"}, True),
        ("system:kube-proxy", {"verb": "watch", "resource": "endpointslices", "group": "discovery.k8s.io"}, True),
        ("system:kube-proxy", {"verb": "create", "resource": "services", "namespace": "kube-system"}, True),
        ("system:kube-proxy", {"verb": "create", "resource": "services", "namespace": "default"}, False),
        ("nobody", {"verb": "list", "resource": "pods"}, False),
    ],
)
def test_the_identities_of_the_components(user: str, question: dict[str, str], allowed: bool) -> None:
    _, authorizer, _ = with_bootstrap()
    identity = Identity(user, ("system:authenticated",))
    assert authorizer.authorize(Attributes(user=identity, **question)).allowed is allowed  # type: ignore[arg-type]


def test_admin_holds_edit_holds_view() -> None:
    by_name = {one["metadata"]["name"]: one["rules"] for one in bootstrap.cluster_roles()}
    admin, edit, view = ([Rule.from_json(rule) for rule in by_name[name]] for name in ("admin", "edit", "view"))
    assert missing(admin, edit) == [] and missing(edit, view) == []
    assert missing(view, edit) and missing(edit, admin)


async def write(check: EscalationCheck, user: Identity, resource: str, obj: Object, namespace: str = "") -> None:
    attributes = Attributes(
        user=user, verb="create", group=bootstrap.API_GROUP, resource=resource, namespace=namespace, object=obj
    )
    await check.before_write(attributes)


async def test_no_one_grants_what_they_do_not_hold() -> None:
    lookup, authorizer, rbac = with_bootstrap()
    check = EscalationCheck(rbac, authorizer)
    subject = {"kind": "User", "name": "ann"}
    lookup.put(ROLEBINDINGS, binding("ann", "ClusterRole", "view", subject, namespace="dev"))
    await write(check, ANN, "roles", role("r", PODS_READER, namespace="dev"), "dev")
    greedy = {"apiGroups": [""], "resources": ["pods"], "verbs": ["delete", "create"]}
    with pytest.raises(Forbidden) as refused:
        await write(check, ANN, "roles", role("r", greedy, namespace="dev"), "dev")
    assert str(refused.value) == (
        'roles.rbac.authorization.k8s.io "r" is forbidden: user "ann" (groups=["dev" "system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["create" "delete"]}'
    )
    await write(check, ANN, "rolebindings", binding("b", "ClusterRole", "view", subject, namespace="dev"), "dev")
    with pytest.raises(Forbidden):
        await write(check, ANN, "rolebindings", binding("b", "ClusterRole", "admin", subject, namespace="dev"), "dev")
    with pytest.raises(NotFound):
        await write(check, ANN, "rolebindings", binding("b", "ClusterRole", "none", subject, namespace="dev"), "dev")
    with pytest.raises(Forbidden):
        await write(check, ANN, "clusterrolebindings", binding("b", "ClusterRole", "view", subject))
    await write(check, Identity("root", ("system:masters",)), "roles", role("r", greedy, namespace="dev"), "dev")


words = st.sets(st.sampled_from(["*", "get", "pods", "apps", ""]), min_size=1, max_size=3)
rules = st.builds(
    lambda verbs, groups, resources, names: Rule(
        frozenset(verbs), frozenset(groups), frozenset(resources), frozenset(names)
    ),
    words,
    words,
    words,
    st.sets(st.sampled_from(["a", "b"]), max_size=1),
)


@given(st.lists(rules, max_size=3), rules, st.sampled_from(["get", "list"]), st.sampled_from(["pods", "nodes"]))
def test_rules_that_cover_others_allow_what_those_allow(held: list[Rule], one: Rule, verb: str, resource: str) -> None:
    assert missing([one], [one]) == []
    if missing(held, [one]) == []:
        for name in ("", "a", "c"):
            question = asked(verb, resource, name=name)
            assert not one.allows(question) or any(rule.allows(question) for rule in held)


def test_reconciling_adds_what_is_missing_and_keeps_what_is_there() -> None:
    want = bootstrap.cluster_roles()[1]
    assert merged_role(want, want) is None
    have = {**want, "rules": [PODS_READER]}
    merged = merged_role(have, want)
    assert merged is not None and merged["rules"] == [PODS_READER, *want["rules"]]
    assert merged_role(merged, want) is None
    kept_off = {**have, "metadata": {**want["metadata"], "annotations": {bootstrap.AUTOUPDATE: "false"}}}
    assert merged_role(kept_off, want) is None
    wanted = bootstrap.cluster_role_bindings()[0]
    assert merged_binding({**wanted, "subjects": []}, wanted) == wanted
    assert merged_binding(wanted, wanted) is None


def test_what_a_check_costs_does_not_grow_with_what_others_may() -> None:
    lookup, authorizer, _ = with_bootstrap()
    question = asked("create", "pods", Identity("system:kube-controller-manager", ("system:authenticated",)))
    few = calls_of(authorizer, question)
    for number in range(1000):
        lookup.put(CLUSTERROLES, role(f"role-{number}", PODS_READER))
        subject = {"kind": "User", "name": f"user-{number}"}
        lookup.put(CLUSTERROLEBINDINGS, binding(f"binding-{number}", "ClusterRole", f"role-{number}", subject))
    assert calls_of(authorizer, question) <= few < 200


def calls_of(authorizer: AuthorizerChain, question: Attributes) -> int:
    """Functions that a check calls, once it and what it leans on have been through it."""
    for _ in range(3):
        authorizer.authorize(question)
    counted = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal counted
        counted += event == "call"

    sys.setprofile(count)
    try:
        authorizer.authorize(question)
    finally:
        sys.setprofile(None)
    return counted
