"""Kinds of apps/v1, and ReplicationController: a selector, a pod template, and how replicas follow it.

What is valid is in `workload_faults`. Source: apps/v1 API reference.
"""

from __future__ import annotations

from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import formats, pod_warnings, podspec, table, workload_faults
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, Column, age, integer, wide
from orchestrator.api.meta import Object
from orchestrator.api.resources import (
    CONTROLLERREVISIONS,
    DAEMONSETS,
    DEPLOYMENTS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
)

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
WIDE = (wide("Containers"), wide("Images"), wide("Selector"))


def _spec(obj: Object) -> dict[str, Any]:
    found: dict[str, Any] = obj.setdefault("spec", {})
    return found


# -- defaults ----------------------------------------------------------------------------------------------------------


def default_deployment(obj: Object) -> None:
    spec = _spec(obj)
    podspec.default_template(spec)
    spec.setdefault("replicas", 1)
    strategy = spec.setdefault("strategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)


def default_replica_set(obj: Object) -> None:
    podspec.default_template(_spec(obj))
    _spec(obj).setdefault("replicas", 1)


def default_daemon_set(obj: Object) -> None:
    spec = _spec(obj)
    podspec.default_template(spec)
    obj.setdefault("metadata", {}).setdefault("annotations", {}).setdefault(TEMPLATE_GENERATION, "0")
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    spec.setdefault("revisionHistoryLimit", 10)


def create_daemon_set(obj: Object) -> None:
    """The template's own generation is kept as an annotation."""
    obj["metadata"].setdefault("annotations", {})[TEMPLATE_GENERATION] = "1"


def update_daemon_set(new: Object, old: Object) -> None:
    count = int(meta.annotations(old).get(TEMPLATE_GENERATION) or 0)
    if _spec(new).get("template") != _spec(old).get("template"):
        count += 1
    if count:
        new["metadata"].setdefault("annotations", {})[TEMPLATE_GENERATION] = str(count)


def default_stateful_set(obj: Object) -> None:
    spec = _spec(obj)
    podspec.default_template(spec)
    if not spec.get("podManagementPolicy"):
        spec["podManagementPolicy"] = "OrderedReady"
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        strategy.setdefault("rollingUpdate", {})
    if strategy["type"] == "RollingUpdate" and strategy.get("rollingUpdate") is not None:
        strategy["rollingUpdate"].setdefault("partition", 0)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    for name in ("whenDeleted", "whenScaled"):
        if not retention.get(name):
            retention[name] = "Retain"
    for claim in spec.get("volumeClaimTemplates") or ():
        claim.setdefault("apiVersion", "v1")
        claim.setdefault("kind", "PersistentVolumeClaim")
        claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
        claim.setdefault("status", {}).setdefault("phase", "Pending")
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)


def default_replication_controller(obj: Object) -> None:
    spec = _spec(obj)
    podspec.default_template(spec)
    spec.setdefault("replicas", 1)
    labels = dict(((spec.get("template") or {}).get("metadata") or {}).get("labels") or {})
    if labels:
        spec.setdefault("selector", dict(labels))
        metadata = obj.setdefault("metadata", {})
        if not metadata.get("labels"):
            metadata["labels"] = labels


# -- tables ------------------------------------------------------------------------------------------------------------


def _wide(obj: Object) -> Cells:
    spec = _spec(obj)
    selector = spec.get("selector")
    if obj.get("kind") == "ReplicationController":
        selector = {"matchLabels": selector}
    return [*table.images((spec.get("template") or {}).get("spec") or {}), table.selector_text(selector)]


def _deployment_cells(obj: Object, now: float) -> Cells:
    status = obj.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{_spec(obj).get('replicas', 0)}"
    counts = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [meta.name(obj), ready, *counts, age(obj, now), *_wide(obj)]


def _replica_set_cells(obj: Object, now: float) -> Cells:
    status = obj.get("status") or {}
    counts = [_spec(obj).get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [meta.name(obj), *counts, age(obj, now), *_wide(obj)]


def _daemon_set_cells(obj: Object, now: float) -> Cells:
    status = obj.get("status") or {}
    names = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled")
    counts = [status.get(name, 0) for name in (*names, "numberAvailable")]
    pod = (_spec(obj).get("template") or {}).get("spec") or {}
    return [meta.name(obj), *counts, table.label_text(pod.get("nodeSelector")), age(obj, now), *_wide(obj)]


def _drop_unavailable(new: Object, _: Object) -> None:
    """How many pods of a StatefulSet may be away at once is behind a gate that is off in v1.36."""
    ((_spec(new).get("updateStrategy") or {}).get("rollingUpdate") or {}).pop("maxUnavailable", None)


def _stateful_set_cells(obj: Object, now: float) -> Cells:
    ready = f"{(obj.get('status') or {}).get('readyReplicas', 0)}/{_spec(obj).get('replicas', 0)}"
    return [meta.name(obj), ready, age(obj, now), *_wide(obj)[:2]]


def _revision_cells(obj: Object, now: float) -> Cells:
    owner = meta.controller_of(obj)
    shown = "<none>"
    if owner:
        group = owner["apiVersion"].rpartition("/")[0]
        shown = f"{owner['kind'].lower()}{'.' + group if group else ''}/{owner['name']}"
    return [meta.name(obj), shown, obj.get("revision", 0), age(obj, now)]


REPLICA_COLUMNS = (NAME, integer("Desired"), integer("Current"), integer("Ready"), AGE, *WIDE)

RULES = (
    KindRules(
        resource=DEPLOYMENTS,
        has_generation=True,
        counts_annotations=True,
        keeps_labels=True,
        default=default_deployment,
        faults=workload_faults.deployment,
        update_faults=workload_faults.deployment_update,
        status_faults=workload_faults.status_update,
        warnings=pod_warnings.of_template,
        update_warnings=pod_warnings.of_changed_template,
        columns=(NAME, *table.texts("Ready", "Up-to-date", "Available"), AGE, *WIDE),
        cells=_deployment_cells,
    ),
    KindRules(
        resource=REPLICASETS,
        has_generation=True,
        default=default_replica_set,
        faults=workload_faults.replica_set,
        update_faults=workload_faults.replica_set_update,
        status_faults=workload_faults.status_update,
        warnings=pod_warnings.of_template,
        update_warnings=pod_warnings.of_changed_template,
        columns=REPLICA_COLUMNS,
        cells=_replica_set_cells,
    ),
    KindRules(
        resource=REPLICATIONCONTROLLERS,
        has_generation=True,
        default=default_replication_controller,
        faults=workload_faults.replication_controller,
        update_faults=workload_faults.replication_controller_update,
        status_faults=workload_faults.status_update,
        warnings=pod_warnings.of_template,
        update_warnings=pod_warnings.of_changed_template,
        columns=REPLICA_COLUMNS,
        cells=_replica_set_cells,
    ),
    KindRules(
        resource=DAEMONSETS,
        has_generation=True,
        default=default_daemon_set,
        on_create=create_daemon_set,
        on_update=update_daemon_set,
        faults=workload_faults.daemon_set,
        update_faults=workload_faults.daemon_set_update,
        status_faults=workload_faults.status_update,
        warnings=pod_warnings.of_template,
        update_warnings=pod_warnings.of_changed_template,
        columns=(
            NAME,
            *map(integer, ("Desired", "Current", "Ready", "Up-to-date", "Available")),
            Column("Node Selector"),
            AGE,
            *WIDE,
        ),
        cells=_daemon_set_cells,
    ),
    KindRules(
        resource=STATEFULSETS,
        has_generation=True,
        name_format=formats.dns_label,
        default=default_stateful_set,
        on_create=lambda obj: _drop_unavailable(obj, {}),
        on_update=_drop_unavailable,
        faults=workload_faults.stateful_set,
        update_faults=workload_faults.stateful_set_update,
        status_faults=workload_faults.status_update,
        warnings=pod_warnings.of_template,
        update_warnings=pod_warnings.of_changed_template,
        columns=(NAME, Column("Ready"), AGE, *WIDE[:2]),
        cells=_stateful_set_cells,
    ),
    KindRules(
        resource=CONTROLLERREVISIONS,
        faults=workload_faults.controller_revision,
        update_faults=workload_faults.controller_revision_update,
        columns=(NAME, *table.texts("Controller", "Revision"), AGE),
        cells=_revision_cells,
    ),
)
