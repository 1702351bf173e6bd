"""What a kubelet may read and write: its own, and what its pods need."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.meta import Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS
from orchestrator.api.wire import Identity
from orchestrator.apiserver.authz.node import NodeAuthorizer
from orchestrator.apiserver.lookup import MemoryLookup
from orchestrator.apiserver.request import Attributes

NODE = Identity("system:node:n1", ("system:nodes", "system:authenticated"))


def pod(name: str, node: str, **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "d"}, "spec": {"nodeName": node, **spec}}


def cluster() -> MemoryLookup:
    lookup = MemoryLookup()
    volumes = [
        {"name": "s", "secret": {"secretName": "mounted"}},
        {"name": "p", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
    ]
    env = [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}]
    lookup.put(
        PODS,
        pod("web", "n1", volumes=volumes, containers=[{"name": "c", "env": env}], serviceAccountName="build"),
    )
    lookup.put(PODS, pod("other", "n2", imagePullSecrets=[{"name": "pull"}], serviceAccountName="other"))
    lookup.put(PERSISTENTVOLUMECLAIMS, {"metadata": {"name": "data", "namespace": "d"}, "spec": {"volumeName": "pv1"}})
    lookup.put(
        PERSISTENTVOLUMES,
        {"metadata": {"name": "pv1"}, "spec": {"claimRef": {"namespace": "d", "name": "data"}}},
    )
    return lookup


def asked(verb: str, resource: str, name: str = "", sub: str = "", **more: Any) -> Attributes:
    namespace = more.pop("namespace", "d")
    return Attributes(user=NODE, verb=verb, resource=resource, name=name, subresource=sub, namespace=namespace, **more)


LEASE = {"group": "coordination.k8s.io"}
ALLOWED = [
    asked("get", "secrets", "mounted"),
    asked("watch", "secrets", "key"),
    asked("get", "configmaps", "kube-root-ca.crt"),
    asked("get", "persistentvolumeclaims", "data"),
    asked("get", "persistentvolumes", "pv1", namespace=""),
    asked("create", "serviceaccounts", "build", "token"),
    asked("get", "pods", "web"),
    asked("list", "pods", namespace="", field_selector="spec.nodeName=n1"),
    asked("patch", "pods", "web", "status"),
    asked("create", "nodes", namespace=""),
    asked("get", "nodes", "n1", namespace=""),
    asked("patch", "nodes", "n1", "status", namespace=""),
    asked("update", "leases", "n1", namespace="kube-node-lease", **LEASE),
    asked("create", "leases", namespace="kube-node-lease", **LEASE),
    asked("list", "services", namespace=""),
    asked("create", "events"),
]
REFUSED = [
    (asked("get", "secrets", "pull"), "no relationship found between node 'n1' and this object"),
    (asked("list", "secrets"), "No Object name found"),
    (asked("delete", "secrets", "mounted"), "can only read resources of this type"),
    (asked("create", "serviceaccounts", "other", "token"), "no relationship found between node 'n1' and this object"),
    (asked("get", "pods", "other"), "no relationship found between node 'n1' and this object"),
    (asked("list", "pods", namespace=""), "can only list/watch pods with spec.nodeName field selector"),
    (
        asked("list", "pods", field_selector="spec.nodeName=n2"),
        "can only list/watch pods with spec.nodeName field selector",
    ),
    (asked("get", "nodes", "n2", namespace=""), "node 'n1' cannot read 'n2', only its own Node object"),
    (asked("list", "nodes", namespace=""), "node 'n1' cannot read all nodes, only its own Node object"),
    (
        asked("update", "leases", "n2", namespace="kube-node-lease", **LEASE),
        "can only access node lease with the same name as the requesting node",
    ),
    (
        asked("get", "leases", "n1", namespace="kube-system", **LEASE),
        'can only access leases in the "kube-node-lease" system namespace',
    ),
    (asked("delete", "nodes", "n1", namespace=""), ""),
    (asked("list", "deployments", group="apps"), ""),
]


@pytest.mark.parametrize("question", ALLOWED, ids=lambda question: f"{question.verb}-{question.resource}")
def test_a_node_may(question: Attributes) -> None:
    assert NodeAuthorizer(cluster()).authorize(question).allowed


@pytest.mark.parametrize(("question", "reason"), REFUSED)
def test_a_node_may_not(question: Attributes, reason: str) -> None:
    decision = NodeAuthorizer(cluster()).authorize(question)
    assert (decision.allowed, decision.reason) == (False, reason)


def test_the_right_goes_with_the_last_pod() -> None:
    lookup = cluster()
    authorizer = NodeAuthorizer(lookup)
    question = asked("get", "secrets", "mounted")
    spec = {"volumes": [{"name": "s", "secret": {"secretName": "mounted"}}]}
    lookup.put(PODS, pod("second", "n1", **spec))
    lookup.remove(PODS, "d", "web")
    assert authorizer.authorize(question).allowed
    lookup.put(PODS, pod("second", "n2", **spec))
    assert not authorizer.authorize(question).allowed


def test_a_mirror_pod_gives_no_right() -> None:
    lookup = cluster()
    mirror = pod("static", "n1", volumes=[{"name": "s", "secret": {"secretName": "coveted"}}])
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    lookup.put(PODS, mirror)
    assert not NodeAuthorizer(lookup).authorize(asked("get", "secrets", "coveted")).allowed


def test_others_are_not_its_business() -> None:
    user = Identity("system:node:n1", ("system:authenticated",))
    question = Attributes(user=user, verb="get", resource="nodes", name="n1")
    decision = NodeAuthorizer(cluster()).authorize(question)
    assert (decision.allowed, decision.reason) == (False, "")
