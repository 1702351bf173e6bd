"""The FlowSchemas and PriorityLevelConfigurations that every cluster starts with.

Mandatory ones are what the API server cannot do without: `exempt`, never limited, and `catch-all`, for whatever nothing
else matches; their specs are fixed. Suggested ones share the server out: the reports of nodes and the elections of
leaders have their own levels, so that no other load keeps them waiting; then come the system's own work, the
controllers, the service accounts of workloads, and everybody else.
Source: Kubernetes docs, "API Priority and Fairness", default configuration; KEP-1040.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.api.meta import Object
from orchestrator.api.resources import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS

AUTOUPDATE = "apf.kubernetes.io/autoupdate-spec"
EXEMPT, CATCH_ALL = "exempt", "catch-all"
BY_USER, BY_NAMESPACE = "ByUser", "ByNamespace"
EVERY = ("*",)

Json = dict[str, Any]


def _object(row: Any, name: str, spec: Json) -> Object:
    metadata = {"name": name, "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": row.api_version, "kind": row.kind, "metadata": metadata, "spec": spec}


def _level(name: str, shares: int, lendable_percent: int, queues: int, hand_size: int) -> Object:
    queuing = {"queues": queues, "handSize": hand_size, "queueLengthLimit": 50}
    limited = {
        "nominalConcurrencyShares": shares,
        "lendablePercent": lendable_percent,
        "limitResponse": {"type": "Queue", "queuing": queuing},
    }
    return _object(PRIORITYLEVELCONFIGURATIONS, name, {"type": "Limited", "limited": limited})


def _groups(*names: str) -> list[Json]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[Json]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


KUBE_SYSTEM_ACCOUNTS: list[Json] = [
    {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}}
]
EVERYONE = _groups("system:unauthenticated", "system:authenticated")


def _resources(verbs: Sequence[str], group: str, plurals: Sequence[str], *, cluster: bool) -> Json:
    rule: Json = {"verbs": list(verbs), "apiGroups": [group], "resources": list(plurals)}
    return rule | ({"clusterScope": True} if cluster else {}) | {"namespaces": ["*"]}


ANYTHING: Json = {
    "resourceRules": [_resources(EVERY, "*", EVERY, cluster=True)],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
}


def _schema(name: str, level: str, precedence: int, told_apart: str, subjects: list[Json], rules: Json) -> Object:
    spec: Json = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
    if told_apart:
        spec["distinguisherMethod"] = {"type": told_apart}
    spec["rules"] = [{"subjects": subjects, **rules}]
    return _object(FLOWSCHEMAS, name, spec)


MANDATORY_LEVELS: tuple[Object, ...] = (
    _object(
        PRIORITYLEVELCONFIGURATIONS,
        CATCH_ALL,
        {
            "type": "Limited",
            "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}},
        },
    ),
    _object(
        PRIORITYLEVELCONFIGURATIONS,
        EXEMPT,
        {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}},
    ),
)
MANDATORY_SCHEMAS: tuple[Object, ...] = (
    _schema(EXEMPT, EXEMPT, 1, "", _groups("system:masters"), ANYTHING),
    _schema(CATCH_ALL, CATCH_ALL, 10_000, BY_USER, EVERYONE, ANYTHING),
)
SUGGESTED_LEVELS: tuple[Object, ...] = (
    _level("system", 30, 33, queues=64, hand_size=6),
    _level("node-high", 40, 25, queues=64, hand_size=6),
    _level("leader-election", 10, 0, queues=16, hand_size=4),
    _level("workload-high", 40, 50, queues=128, hand_size=6),
    _level("workload-low", 100, 90, queues=128, hand_size=6),
    _level("global-default", 20, 50, queues=128, hand_size=6),
)
_LEASES = "coordination.k8s.io"
_PROBED: Json = {"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}
_ELECTION: Json = {"resourceRules": [_resources(("get", "create", "update"), _LEASES, ("leases",), cluster=False)]}
_NODE_REPORTS: Json = {
    "resourceRules": [
        _resources(EVERY, "", ("nodes", "nodes/status"), cluster=True),
        _resources(EVERY, _LEASES, ("leases",), cluster=False),
    ]
}
_MANAGER, _SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"
SUGGESTED_SCHEMAS: tuple[Object, ...] = (
    _schema("system-nodes", "system", 500, BY_USER, _groups("system:nodes"), ANYTHING),
    _schema("system-node-high", "node-high", 400, BY_USER, _groups("system:nodes"), _NODE_REPORTS),
    _schema("probes", EXEMPT, 2, "", EVERYONE, _PROBED),
    _schema(
        "system-leader-election", "leader-election", 100, BY_USER,
        [*_users(_MANAGER, _SCHEDULER), *KUBE_SYSTEM_ACCOUNTS], _ELECTION,
    ),
    _schema("kube-controller-manager", "workload-high", 800, BY_NAMESPACE, _users(_MANAGER), ANYTHING),
    _schema("kube-scheduler", "workload-high", 800, BY_NAMESPACE, _users(_SCHEDULER), ANYTHING),
    _schema("kube-system-service-accounts", "workload-high", 900, BY_NAMESPACE, KUBE_SYSTEM_ACCOUNTS, ANYTHING),
    _schema("service-accounts", "workload-low", 9000, BY_USER, _groups("system:serviceaccounts"), ANYTHING),
    _schema("global-default", "global-default", 9900, BY_USER, EVERYONE, ANYTHING),
)  # fmt: skip
