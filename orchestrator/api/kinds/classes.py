"""PriorityClass and RuntimeClass: names that a pod spec refers to.

Source: scheduling.k8s.io/v1 and node.k8s.io/v1 API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import faults, formats, resource_faults, scheduling_faults, table
from orchestrator.api.kinds.metadata import check_labels
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, Column, age, integer
from orchestrator.api.kinds.values import one_of
from orchestrator.api.meta import Object
from orchestrator.api.resources import PRIORITYCLASSES, RUNTIMECLASSES
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

USER_PRIORITY_MAX = 1_000_000_000
SYSTEM_PREFIX = "system-"
SYSTEM_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


def default_priority(obj: Object) -> None:
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def priority(obj: Object) -> list[Cause]:
    name, value = meta.name(obj), obj.get("value", 0)
    causes: list[Cause] = []
    if name.startswith(SYSTEM_PREFIX):
        if SYSTEM_CLASSES.get(name) != value:
            why = f"{name} is not a known system priority class"
            if name in SYSTEM_CLASSES:
                why = f"value of {name} PriorityClass must be {SYSTEM_CLASSES[name]}"
            detail = (
                f"priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
            )
            causes.append(faults.forbidden("metadata.name", detail))
    elif value > USER_PRIORITY_MAX:
        detail = f"maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}"
        causes.append(faults.forbidden("value", detail))
    supported = ("PreemptLowerPriority", "Never")
    return causes + one_of(obj.get("preemptionPolicy"), "preemptionPolicy", supported, required=False)


def priority_update(new: Object, old: Object) -> list[Cause]:
    same = new.get("value") == old.get("value")
    causes = [] if same else [faults.forbidden("value", "may not be changed in an update.")]
    return causes + faults.immutable("preemptionPolicy", new.get("preemptionPolicy"), old.get("preemptionPolicy"))


def runtime(obj: Object) -> list[Cause]:
    handler = obj.get("handler") or ""
    causes = (
        [faults.required("handler")] if not handler else faults.each("handler", handler, formats.dns_label(handler))
    )
    overhead = obj.get("overhead")
    if overhead is not None:
        causes += resource_faults.requirements({"limits": overhead.get("podFixed")}, "overhead")
    scheduling = obj.get("scheduling") or {}
    causes += check_labels(scheduling.get("nodeSelector"), "scheduling.nodeSelector")
    found, path = scheduling.get("tolerations") or [], "scheduling.tolerations"
    seen: list[list[Any]] = []
    for index, toleration in enumerate(found):
        causes += scheduling_faults.tolerations([toleration], path, index)
        key = [toleration.get(name) for name in ("key", "operator", "value", "effect")]
        if key in seen:
            causes.append(faults.duplicate(f"{path}[{index}]", toleration))
        seen.append(key)
    return causes


def runtime_update(new: Object, old: Object) -> list[Cause]:
    return [*runtime(new), *faults.immutable("handler", new.get("handler"), old.get("handler"))]


def _priority_cells(obj: Object, now: float) -> Cells:
    policy = obj.get("preemptionPolicy") or ""
    return [meta.name(obj), obj.get("value", 0), bool(obj.get("globalDefault")), age(obj, now), policy]


RULES = (
    KindRules(
        resource=PRIORITYCLASSES,
        has_generation=True,
        moves_generation=False,
        default=default_priority,
        faults=priority,
        update_faults=priority_update,
        columns=(NAME, integer("Value"), Column("Global-Default", "boolean"), AGE, Column("PreemptionPolicy")),
        cells=_priority_cells,
    ),
    KindRules(
        resource=RUNTIMECLASSES,
        faults=runtime,
        update_faults=runtime_update,
        columns=(NAME, *table.texts("Handler"), AGE),
        cells=lambda obj, now: [meta.name(obj), obj.get("handler") or "", age(obj, now)],
    ),
)
