"""Each component may do what it does, and not what its neighbours do."""

from __future__ import annotations

import pytest

from orchestrator.api.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES, ResourceTable
from orchestrator.api.wire import Identity
from orchestrator.apiserver.authz import bootstrap
from orchestrator.apiserver.authz.chain import AuthorizerChain
from orchestrator.apiserver.authz.node import NodeAuthorizer
from orchestrator.apiserver.authz.rbac import Rbac
from orchestrator.apiserver.lookup import MemoryLookup
from orchestrator.apiserver.request import Attributes

SCHEDULER, CONTROLLERS, NODE_AGENT = "system:kube-scheduler", "system:kube-controller-manager", "system:kube-proxy"
KUBELET = "system:node:n1"

# user: verbs on plural.group[/subresource] [in a namespace] [of a name]
RIGHTS = [
    (SCHEDULER, "get list watch delete", "pods", "default", ""),
    (SCHEDULER, "create", "pods/binding", "default", "web"),
    (SCHEDULER, "patch update", "pods/status", "default", "web"),
    (SCHEDULER, "list watch", "nodes", "", ""),
    (SCHEDULER, "list watch", "statefulsets.apps", "", ""),
    (SCHEDULER, "list watch", "poddisruptionbudgets.policy", "", ""),
    (SCHEDULER, "list watch", "namespaces", "", ""),
    (SCHEDULER, "patch", "persistentvolumeclaims", "default", "data"),
    (SCHEDULER, "create patch", "events", "default", ""),
    (SCHEDULER, "create", "leases.coordination.k8s.io", "kube-system", ""),
    (SCHEDULER, "get update", "leases.coordination.k8s.io", "kube-system", "kube-scheduler"),
    (CONTROLLERS, "list watch", "leases.coordination.k8s.io", "", ""),
    (CONTROLLERS, "create", "leases.coordination.k8s.io", "kube-system", ""),
    (CONTROLLERS, "get update", "leases.coordination.k8s.io", "kube-system", "kube-controller-manager"),
    (CONTROLLERS, "create delete patch", "pods", "default", ""),
    (CONTROLLERS, "update patch", "pods/status", "default", "web"),
    (CONTROLLERS, "create update delete patch", "replicasets.apps", "default", "web"),
    (CONTROLLERS, "update", "deployments.apps/status", "default", "web"),
    (CONTROLLERS, "update", "statefulsets.apps/status", "default", "web"),
    (CONTROLLERS, "update", "persistentvolumeclaims", "default", "data-web-0"),
    (CONTROLLERS, "update", "daemonsets.apps/status", "default", "web"),
    (CONTROLLERS, "update", "jobs.batch/status", "default", "web"),
    (CONTROLLERS, "create update delete", "controllerrevisions.apps", "default", "web"),
    (CONTROLLERS, "create update delete", "endpointslices.discovery.k8s.io", "default", "web"),
    (CONTROLLERS, "create update", "endpoints", "default", "web"),
    (CONTROLLERS, "create", "serviceaccounts", "default", ""),
    (CONTROLLERS, "create update", "configmaps", "default", "kube-root-ca.crt"),
    (CONTROLLERS, "create patch", "persistentvolumeclaims", "default", "data"),
    (CONTROLLERS, "list watch", "ipaddresses.networking.k8s.io", "", ""),
    (CONTROLLERS, "list watch patch", "servicecidrs.networking.k8s.io", "", ""),
    (CONTROLLERS, "update", "servicecidrs.networking.k8s.io/status", "", "kubernetes"),
    (CONTROLLERS, "update patch", "nodes", "", "n1"),
    (CONTROLLERS, "update", "nodes/status", "", "n1"),
    (CONTROLLERS, "update", "namespaces/finalize", "", "d"),
    (CONTROLLERS, "update", "namespaces/status", "", "d"),
    (CONTROLLERS, "deletecollection", "secrets", "d", ""),
    (CONTROLLERS, "list watch", "resourceclaims.resource.k8s.io", "", ""),
    (CONTROLLERS, "list watch", "toys.example.com", "", ""),
    (CONTROLLERS, "list watch patch", "volumeattributesclasses.storage.k8s.io", "", "gold"),
    (CONTROLLERS, "list watch", "validatingadmissionpolicies.admissionregistration.k8s.io", "", "p"),
    (CONTROLLERS, "patch", "validatingadmissionpolicies.admissionregistration.k8s.io/status", "", "p"),
    (NODE_AGENT, "get list watch", "services", "", ""),
    (NODE_AGENT, "list watch", "endpointslices.discovery.k8s.io", "", ""),
    (NODE_AGENT, "list watch", "nodes", "", ""),
    (NODE_AGENT, "list watch", "pods", "", ""),
    (NODE_AGENT, "list watch", "namespaces", "", ""),
    (NODE_AGENT, "create patch", "events", "default", ""),
    (NODE_AGENT, "create update", "services", "kube-system", "kube-dns"),
    (NODE_AGENT, "create update", "endpointslices.discovery.k8s.io", "kube-system", "kube-dns-n1"),
    (KUBELET, "create", "nodes", "", ""),
    (KUBELET, "get patch", "nodes", "", "n1"),
    (KUBELET, "patch", "nodes/status", "", "n1"),
    (KUBELET, "list watch", "services", "", ""),
    (KUBELET, "patch", "pods/status", "default", "web"),
    (KUBELET, "delete", "pods", "default", "web"),
    (KUBELET, "create", "tokenreviews.authentication.k8s.io", "", ""),
    (KUBELET, "create", "subjectaccessreviews.authorization.k8s.io", "", ""),
    (KUBELET, "get update create", "leases.coordination.k8s.io", "kube-node-lease", "n1"),
    (KUBELET, "create patch", "events", "default", ""),
    (KUBELET, "list watch", "runtimeclasses.node.k8s.io", "", ""),
]
WRONGS = [
    (SCHEDULER, "get list", "secrets", "default", ""),
    (SCHEDULER, "create", "pods", "default", ""),
    (SCHEDULER, "update", "nodes", "", "n1"),
    (CONTROLLERS, "create bind", "clusterrolebindings.rbac.authorization.k8s.io", "", ""),
    (CONTROLLERS, "impersonate", "users", "", "admin"),
    (NODE_AGENT, "get list", "secrets", "default", ""),
    (NODE_AGENT, "create update", "services", "default", "web"),
    (NODE_AGENT, "update", "pods/status", "default", "web"),
    (KUBELET, "list", "secrets", "default", ""),
    (KUBELET, "get", "secrets", "default", "any"),
    (KUBELET, "get", "nodes", "", "n2"),
    (KUBELET, "create", "deployments.apps", "default", ""),
]


def chain() -> AuthorizerChain:
    lookup = MemoryLookup()
    for resource, objects in (
        (CLUSTERROLES, bootstrap.cluster_roles()),
        (CLUSTERROLEBINDINGS, bootstrap.cluster_role_bindings()),
        (ROLES, bootstrap.roles()),
        (ROLEBINDINGS, bootstrap.role_bindings()),
    ):
        for obj in objects:
            lookup.put(resource, obj)
    return AuthorizerChain([NodeAuthorizer(lookup), Rbac(lookup)])


def questions(user: str, verbs: str, what: str, namespace: str, name: str) -> list[Attributes]:
    groups = ("system:nodes", "system:authenticated") if user == KUBELET else ("system:authenticated",)
    group_resource, _, subresource = what.partition("/")
    plural, _, group = group_resource.partition(".")
    return [
        Attributes(
            user=Identity(user, groups), verb=verb, group=group, resource=plural, subresource=subresource,
            namespace=namespace, name=name,
        )
        for verb in verbs.split()
    ]  # fmt: skip


@pytest.mark.parametrize("right", RIGHTS, ids=lambda right: f"{right[0].removeprefix('system:')}-{right[2]}")
def test_a_component_may(right: tuple[str, str, str, str, str]) -> None:
    authorizer = chain()
    refused = [asked.verb for asked in questions(*right) if not authorizer.authorize(asked).allowed]
    assert refused == []


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: f"{wrong[0].removeprefix('system:')}-{wrong[2]}")
def test_a_component_may_not(wrong: tuple[str, str, str, str, str]) -> None:
    authorizer = chain()
    allowed = [asked.verb for asked in questions(*wrong) if authorizer.authorize(asked).allowed]
    assert allowed == []


def test_rules_name_resources_that_exist() -> None:
    """A slip of the pen in a role would be found only by the component that is refused."""
    known = {(row.group, row.plural) for row in ResourceTable()}
    known |= {(row.group, f"{row.plural}/{sub.name}") for row in ResourceTable() for sub in row.subresources}
    unknown = set()
    for role in [*bootstrap.cluster_roles(), *bootstrap.roles()]:
        for rule in role["rules"]:
            for group in rule.get("apiGroups", ()):
                for resource in rule.get("resources", ()):
                    if "*" not in (group, resource) and "*" not in resource and (group, resource) not in known:
                        unknown.add(f"{group}:{resource}")
    virtual = {f":nodes/{name}" for name in ("configz", "healthz", "log", "metrics", "pods", "stats")}
    virtual |= {":endpoints/restricted", ":services/finalizers"}
    assert {name for name in unknown - virtual if not name.endswith("/finalizers")} == {
        "apps:deployments/rollback",
        "certificates.k8s.io:certificatesigningrequests/nodeclient",
        "certificates.k8s.io:certificatesigningrequests/selfnodeclient",
        "certificates.k8s.io:signers",
        "coordination.k8s.io:leasecandidates",
        "discovery.k8s.io:endpointslices/restricted",
        "extensions:deployments",
        "metrics.k8s.io:pods",
        "resource.k8s.io:resourceclaims/binding",
    }
