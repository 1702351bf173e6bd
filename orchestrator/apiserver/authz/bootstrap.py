"""The roles and bindings that every cluster starts with, as data.

Names and rules are those of kube-apiserver, for the kinds served here: people and manifests refer to them. admin, edit
and view are aggregated from the `system:aggregate-to-*` roles by their labels; the union is written at the start, so
they work before the aggregation controller has run. Roles named `sampan:` are ours: upstream gives each controller an
account of its own, while here one identity runs them all.
Source: Kubernetes docs, "Using RBAC Authorization", default roles and role bindings.
"""

from __future__ import annotations

from typing import Any

from orchestrator.api.meta import Object
from orchestrator.apiserver.authz.bootstrap_controllers import CONTROLLERS
from orchestrator.apiserver.authz.rule_notation import EVENTS, READ, WRITE, rule, urls

API_GROUP = "rbac.authorization.k8s.io"
API_VERSION = f"{API_GROUP}/v1"
AGGREGATE = f"{API_GROUP}/aggregate-to-"
DEFAULTS_LABEL = {"kubernetes.io/bootstrapping": "rbac-defaults"}
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"

Rules = list[dict[str, Any]]

USER_APPS = "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status " \
    "replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status"  # fmt: skip

AGGREGATED_RULES: dict[str, Rules] = {
    "admin": [
        rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
        rule(f"{READ} {WRITE}", API_GROUP, "roles rolebindings"),
    ],
    "edit": [
        rule("get list watch", "", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
        rule("impersonate", "", "serviceaccounts"),
        rule(WRITE, "", "pods pods/attach pods/exec pods/portforward pods/proxy"),
        rule("create", "", "pods/eviction"),
        rule(
            WRITE, "",
            "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets "
            "serviceaccounts services services/proxy",
        ),
        rule("create", "", "serviceaccounts/token"),
        rule(WRITE, "apps", "daemonsets deployments deployments/rollback deployments/scale replicasets "
             "replicasets/scale statefulsets statefulsets/scale"),
        rule(WRITE, "autoscaling", "horizontalpodautoscalers"),
        rule(WRITE, "batch", "cronjobs jobs"),
        rule(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
        rule(WRITE, "policy", "poddisruptionbudgets"),
        rule(f"create delete deletecollection {READ} patch update", "coordination.k8s.io", "leases"),
        rule(WRITE, "events.k8s.io", "events"),
        rule(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
    ],
    "view": [
        rule(
            READ, "",
            "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers "
            "replicationcontrollers/scale serviceaccounts services services/status",
        ),
        rule(
            READ, "",
            "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status "
            "resourcequotas resourcequotas/status",
        ),
        rule(READ, "", "namespaces"),
        rule(READ, "discovery.k8s.io", "endpointslices"),
        rule(READ, "apps", USER_APPS),
        rule(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
        rule(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
        rule(READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
        rule(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
        rule(READ, "events.k8s.io", "events"),
        rule(READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
    ],
}  # fmt: skip

# What a node may do that is no matter of which node it is; also the role system:node.
NODE_RULES: Rules = [
    rule("create", "authentication.k8s.io", "tokenreviews"),
    rule("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
    rule(READ, "", "services"),
    rule(f"create {READ}", "", "nodes"),
    rule("patch update", "", "nodes/status"),
    rule("patch update", "", "nodes"),
    EVENTS,
    rule(READ, "", "pods"),
    rule("create delete", "", "pods"),
    rule("patch update", "", "pods/status"),
    rule("create", "", "pods/eviction"),
    rule(READ, "", "configmaps secrets"),
    rule("get", "", "persistentvolumeclaims persistentvolumes"),
    rule("get", "", "endpoints"),
    rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    rule("create delete get patch update", "coordination.k8s.io", "leases"),
    rule("get", "storage.k8s.io", "volumeattachments"),
    rule("create", "", "serviceaccounts/token"),
    rule("get patch update", "", "persistentvolumeclaims/status"),
    rule(READ, "storage.k8s.io", "csidrivers"),
    rule("create delete get patch update", "storage.k8s.io", "csinodes"),
    rule(READ, "node.k8s.io", "runtimeclasses"),
    rule("get", "", "serviceaccounts"),
    rule("get", "resource.k8s.io", "resourceclaims"),
    rule("deletecollection", "resource.k8s.io", "resourceslices"),
]

CLUSTER_ROLES: dict[str, Rules] = {
    "cluster-admin": [rule("*", "*", "*"), urls("*", "*")],
    "system:discovery": [
        urls("get", "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/"),
    ],
    "system:monitoring": [
        urls("get", "/flagz /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/* /statusz"),
        rule("get", "", "nodes/metrics"),
    ],
    "system:public-info-viewer": [urls("get", "/healthz /livez /readyz /version /version/")],
    "system:basic-user": [
        rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        rule("create", "authentication.k8s.io", "selfsubjectreviews"),
    ],
    "system:service-account-issuer-discovery": [
        urls("get", "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks "
             "/openid/v1/jwks/"),
    ],
    "system:node": NODE_RULES,
    "system:node-problem-detector": [rule("get", "", "nodes"), rule("patch", "", "nodes/status"), EVENTS],
    "system:node-proxier": [
        rule("list watch", "", "endpoints services"),
        rule("get list watch", "", "nodes"),
        EVENTS,
        rule("list watch", "discovery.k8s.io", "endpointslices"),
        rule("list watch", "networking.k8s.io", "servicecidrs"),
    ],
    "system:kubelet-api-admin": [
        rule(READ, "", "nodes"),
        rule("proxy", "", "nodes"),
        rule("*", "", "nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/stats"),
    ],
    "system:node-bootstrapper": [rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests")],
    "system:auth-delegator": [
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
    ],
    "system:kube-aggregator": [rule(READ, "", "endpoints services")],
    "system:kube-controller-manager": [
        EVENTS,
        rule("create", "coordination.k8s.io", "leases"),
        rule("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
        rule("create", "", "secrets serviceaccounts"),
        rule("delete", "", "secrets"),
        rule("get", "", "configmaps namespaces secrets serviceaccounts"),
        rule("update", "", "secrets serviceaccounts"),
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        rule("list watch", "*", "*"),
        rule("create", "", "serviceaccounts/token"),
    ],
    # As the documentation of cloud controller managers has it (Cloud Controller Manager, Authorization).
    "system:cloud-controller-manager": [
        EVENTS,
        rule("create get list patch update watch", "coordination.k8s.io", "leases"),
        rule(f"delete {READ} patch update", "", "nodes"),
        rule("patch update", "", "nodes/status"),
        rule(f"{READ} patch update", "", "services"),
        rule("patch update", "", "services/status"),
        # As those of the sidecars of a CSI driver: provisioner, attacher, resizer.
        rule(f"create delete {READ} patch update", "", "persistentvolumes"),
        rule(f"{READ} patch update", "", "persistentvolumeclaims"),
        rule("patch update", "", "persistentvolumeclaims/status"),
        rule(f"create {READ}", "storage.k8s.io", "storageclasses"),
        rule(f"create {READ} patch update", "storage.k8s.io", "csidrivers"),
        rule(f"{READ} patch update", "storage.k8s.io", "volumeattachments"),
        rule("patch update", "storage.k8s.io", "volumeattachments/status"),
    ],
    "system:kube-scheduler": [
        EVENTS,
        rule("create", "coordination.k8s.io", "leases"),
        rule(f"{READ} update", "coordination.k8s.io", "leases", "kube-scheduler"),
        rule(f"{READ} {WRITE}", "coordination.k8s.io", "leasecandidates"),
        rule(READ, "", "nodes"),
        rule("delete get list watch", "", "pods"),
        rule("create", "", "bindings pods/binding"),
        rule("patch update", "", "pods/status"),
        rule(READ, "", "replicationcontrollers services"),
        rule(READ, "apps", "replicasets"),
        rule(READ, "apps", "statefulsets"),
        rule(READ, "policy", "poddisruptionbudgets"),
        rule(f"{READ} patch update", "", "persistentvolumeclaims persistentvolumes"),
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        rule(READ, "storage.k8s.io", "csinodes"),
        rule(READ, "", "namespaces"),
        rule(READ, "storage.k8s.io", "csidrivers csistoragecapacities"),
        rule(READ, "storage.k8s.io", "storageclasses volumeattachments"),
        rule(READ, "scheduling.k8s.io", "priorityclasses"),
        rule(READ, "resource.k8s.io", "deviceclasses resourceslices"),
        rule(f"create delete {READ} patch update", "resource.k8s.io", "resourceclaims"),
        rule(f"{READ} patch update", "resource.k8s.io", "resourceclaims/status"),
        rule("patch update", "resource.k8s.io", "resourceclaims/binding"),
        rule("update", "", "pods/finalizers"),
    ],
    "system:heapster": [rule(READ, "", "events namespaces nodes pods"), rule(READ, "extensions", "deployments")],
    "system:kube-dns": [
        rule("list watch", "", "endpoints services"),
        rule("list watch", "discovery.k8s.io", "endpointslices"),
    ],
    "system:persistent-volume-provisioner": [
        rule("create delete get list watch", "", "persistentvolumes"),
        rule(f"{READ} update", "", "persistentvolumeclaims"),
        rule(READ, "storage.k8s.io", "storageclasses"),
        rule("watch", "", "events"),
        EVENTS,
    ],
    "system:volume-scheduler": [
        rule(f"{READ} patch update", "", "persistentvolumes"),
        rule(READ, "storage.k8s.io", "storageclasses"),
        rule(f"{READ} patch update", "", "persistentvolumeclaims"),
    ],
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": [
        rule("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient"),
    ],
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": [
        rule("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient"),
    ],
    **{
        f"system:certificates.k8s.io:{short}-approver": [
            rule("approve", "certificates.k8s.io", "signers", f"kubernetes.io/{signer}"),
        ]
        for short, signer in (
            ("kube-apiserver-client", "kube-apiserver-client"),
            ("kube-apiserver-client-kubelet", "kube-apiserver-client-kubelet"),
            ("kubelet-serving", "kubelet-serving"),
            ("legacy-unknown", "legacy-unknown"),
        )
    },
    # What the root process of a node needs beside system:node-proxier: the pod network, policies, and cluster DNS.
    "sampan:node-agent": [
        rule(READ, "", "endpoints namespaces nodes pods services"),
        rule(READ, "discovery.k8s.io", "endpointslices"),
        rule(READ, "networking.k8s.io", "networkpolicies"),
        EVENTS,
    ],
    "sampan:controller-manager": [one for rules in CONTROLLERS.values() for one in rules],
}  # fmt: skip

# role: subjects, as `user:`, `group:` or `account:namespace/`
CLUSTER_BINDINGS: dict[str, tuple[str, ...]] = {
    "cluster-admin": ("group:system:masters",),
    "kubeadm:cluster-admins": ("group:kubeadm:cluster-admins",),
    "system:monitoring": ("group:system:monitoring",),
    "system:discovery": ("group:system:authenticated",),
    "system:basic-user": ("group:system:authenticated",),
    "system:public-info-viewer": ("group:system:authenticated", "group:system:unauthenticated"),
    "system:service-account-issuer-discovery": ("group:system:serviceaccounts",),
    "system:node": (),  # the Node authorizer stands in its place
    "system:node-proxier": ("user:system:kube-proxy",),
    "system:kube-controller-manager": ("user:system:kube-controller-manager",),
    "system:cloud-controller-manager": (
        "user:system:cloud-controller-manager",
        "account:kube-system/cloud-controller-manager",
    ),
    "system:kube-scheduler": ("user:system:kube-scheduler",),
    "system:volume-scheduler": ("user:system:kube-scheduler",),
    "system:kube-dns": ("account:kube-system/kube-dns",),
    "sampan:node-agent": ("user:system:kube-proxy",),
    "sampan:controller-manager": ("user:system:kube-controller-manager",),
}
ROLE_OF_BINDING = {"kubeadm:cluster-admins": "cluster-admin"}

# (namespace, name): rules and subjects
NAMESPACED: dict[tuple[str, str], tuple[Rules, tuple[str, ...]]] = {
    ("kube-system", "extension-apiserver-authentication-reader"): (
        [rule(READ, "", "configmaps", "extension-apiserver-authentication")],
        ("user:system:kube-controller-manager", "user:system:kube-scheduler"),
    ),
    ("kube-system", "system::leader-locking-kube-controller-manager"): (
        [rule(f"create {READ} update", "coordination.k8s.io", "leases")],
        ("user:system:kube-controller-manager", "account:kube-system/kube-controller-manager"),
    ),
    ("kube-system", "system::leader-locking-kube-scheduler"): (
        [rule(f"create {READ} update", "coordination.k8s.io", "leases")],
        ("user:system:kube-scheduler", "account:kube-system/kube-scheduler"),
    ),
    ("kube-system", "sampan:node-agent"): (  # the DNS Service and its endpoints are written by who answers there
        [
            rule("create patch update", "", "services services/status"),
            rule("create delete patch update", "discovery.k8s.io", "endpointslices"),
        ],
        ("user:system:kube-proxy",),
    ),
}


def cluster_roles() -> list[Object]:
    roles = [_role("ClusterRole", name, rules) for name, rules in CLUSTER_ROLES.items()]
    roles += [_role("ClusterRole", f"system:controller:{name}", rules) for name, rules in CONTROLLERS.items()]
    for level, rules in AGGREGATED_RULES.items():
        source = _role("ClusterRole", f"system:aggregate-to-{level}", rules)
        source["metadata"]["labels"][f"{AGGREGATE}{level}"] = "true"
        roles.append(source)
    return roles + [_aggregated(level) for level in AGGREGATED_RULES]


def _aggregated(level: str) -> Object:
    """admin holds edit, edit holds view: each also carries the label that makes it part of the next. The rules come in
    the order in which the aggregation controller puts them, so that it finds nothing to do."""
    below = {"admin": ("edit", "view", "admin"), "edit": ("edit", "view"), "view": ("view",)}[level]
    rules: Rules = []
    for each in below:
        rules += [one for one in AGGREGATED_RULES[each] if one not in rules]
    role = _role("ClusterRole", level, rules)
    above = {"edit": "admin", "view": "edit"}.get(level)
    if above:
        role["metadata"]["labels"][f"{AGGREGATE}{above}"] = "true"
    selector = {"matchLabels": {f"{AGGREGATE}{level}": "true"}}
    return role | {"aggregationRule": {"clusterRoleSelectors": [selector]}}


def cluster_role_bindings() -> list[Object]:
    bindings = [
        _binding("ClusterRoleBinding", name, "ClusterRole", ROLE_OF_BINDING.get(name, name), subjects)
        for name, subjects in CLUSTER_BINDINGS.items()
    ]
    for name in CONTROLLERS:
        full = f"system:controller:{name}"
        bindings.append(_binding("ClusterRoleBinding", full, "ClusterRole", full, (f"account:kube-system/{name}",)))
    return bindings


def roles() -> list[Object]:
    return [_role("Role", name, rules, namespace) for (namespace, name), (rules, _) in NAMESPACED.items()]


def role_bindings() -> list[Object]:
    return [
        _binding("RoleBinding", name, "Role", name, subjects, namespace)
        for (namespace, name), (_, subjects) in NAMESPACED.items()
    ]


def _role(kind: str, name: str, rules: Rules, namespace: str = "") -> Object:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": _metadata(name, namespace), "rules": rules}


def _binding(kind: str, name: str, role_kind: str, role: str, subjects: tuple[str, ...], namespace: str = "") -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": _metadata(name, namespace),
        "roleRef": {"apiGroup": API_GROUP, "kind": role_kind, "name": role},
        "subjects": [_subject(text) for text in subjects],
    }


def _metadata(name: str, namespace: str) -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {"name": name, **place, "labels": dict(DEFAULTS_LABEL), "annotations": {AUTOUPDATE: "true"}}


def _subject(text: str) -> dict[str, str]:
    kind, _, name = text.partition(":")
    if kind == "account":
        namespace, _, name = name.partition("/")
        return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return {"apiGroup": API_GROUP, "kind": kind.capitalize(), "name": name}
