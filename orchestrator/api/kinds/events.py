"""Event and Lease: what happened, and who is alive.

One store keeps events of both API groups: v1 has the older fields, events.k8s.io/v1 the newer names of the same.
Source: core/v1, events.k8s.io/v1 and coordination.k8s.io/v1 API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import faults, formats, table
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, Column, age, since, wide
from orchestrator.api.meta import Object
from orchestrator.api.resources import EVENTS, EVENTS_V1, LEASES
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

TEXT_MAX = {"reportingInstance": 128, "action": 128, "reason": 128, "note": 1024}
# What events.k8s.io/v1 calls a field of v1.
RENAMED = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}


def to_v1(event: Object) -> Object:
    """An event of either group in the words of v1, in which events are stored."""
    back = {new: old for old, new in RENAMED.items()}
    return {back.get(name, name): value for name, value in event.items()} | {"apiVersion": "v1"}


def to_events_v1(event: Object) -> Object:
    """A stored event in the words of events.k8s.io/v1."""
    renamed = {RENAMED.get(name, name): value for name, value in event.items()}
    return renamed | {"apiVersion": "events.k8s.io/v1"}


def event(obj: Object) -> list[Cause]:
    """A v1 event: it must lie in the namespace of what it is about; one with an eventTime is held to the new rules."""
    about, namespace = obj.get("involvedObject") or {}, meta.namespace(obj)
    mismatch = faults.invalid(
        "involvedObject.namespace", about.get("namespace") or "", "does not match event.namespace"
    )
    if not obj.get("eventTime"):
        expected = (namespace,) if about.get("namespace") else ("", "default")
        held = about.get("namespace") or namespace
        return [] if held in expected or (not about.get("namespace") and namespace == "default") else [mismatch]
    causes = [mismatch] if not about.get("namespace") and namespace not in ("default", "kube-system") else []
    return causes + _new_rules(obj, "reportingController")


def event_v1(obj: Object) -> list[Cause]:
    causes = _new_rules(obj, "reportingController")
    series = obj.get("series")
    if series is not None:
        if series.get("count", 0) < 2:
            causes.append(faults.invalid("series.count", "", "should be at least 2"))
        if not series.get("lastObservedTime"):
            causes.append(faults.required("series.lastObservedTime"))
    if not obj.get("eventTime"):
        causes.append(faults.required("eventTime"))
    if obj.get("type") not in ("Normal", "Warning"):
        causes.append(faults.invalid("type", "", f"has invalid value: {obj.get('type') or ''}"))
    for name in ("firstTimestamp", "lastTimestamp", "count"):
        if obj.get(RENAMED[name]):
            causes.append(faults.invalid(name, "", "needs to be unset"))
    return causes


def _new_rules(obj: Object, name: str) -> list[Cause]:
    controller = obj.get("reportingController") or obj.get("reportingComponent") or ""
    causes = [] if controller else [faults.required(name)]
    causes += faults.each(name, controller, formats.qualified_name(controller))
    for field in ("reportingInstance", "action", "reason"):
        text = obj.get(field) or ""
        if not text:
            causes.append(faults.required(field))
        elif len(text) > TEXT_MAX[field]:
            causes.append(faults.invalid(field, "", f"can have at most {TEXT_MAX[field]} characters"))
    if len(obj.get("note") or obj.get("message") or "") > TEXT_MAX["note"]:
        causes.append(faults.invalid("message", "", f"can have at most {TEXT_MAX['note']} characters"))
    return causes


def _cells(obj: Object, now: float) -> Cells:
    event = to_v1(obj) if obj.get("apiVersion") == "events.k8s.io/v1" else obj
    about, source, series = event.get("involvedObject") or {}, event.get("source") or {}, event.get("series") or {}
    first = since(event.get("firstTimestamp") or event.get("eventTime"), now)
    last = since(event["lastTimestamp"], now) if event.get("lastTimestamp") else first
    count = event.get("count") or 1
    if series:
        last, count = since(series.get("lastObservedTime"), now), series.get("count", 0)
    kind = (about.get("kind") or "").lower()
    component = source.get("component") or event.get("reportingComponent") or ""
    host = source.get("host") or event.get("reportingInstance") or ""
    return [
        last,
        event.get("type") or "",
        event.get("reason") or "",
        f"{kind}/{about['name']}" if about.get("name") else kind,
        about.get("fieldPath") or "",
        f"{component}, {host}" if host else component,
        (event.get("message") or "").strip(),
        first,
        count,
        meta.name(event),
    ]


COLUMNS = (
    *table.texts("Last Seen", "Type", "Reason", "Object"),
    *map(wide, ("Subobject", "Source")),
    Column("Message"),
    *map(wide, ("First Seen", "Count")),
    Column("Name", priority=1, format="name"),
)


def lease(obj: Object) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    if spec.get("leaseDurationSeconds") is not None and spec["leaseDurationSeconds"] <= 0:
        detail = "must be greater than 0"
        causes.append(faults.invalid("spec.leaseDurationSeconds", spec["leaseDurationSeconds"], detail))
    if spec.get("leaseTransitions", 0) < 0:
        detail = "must be greater than or equal to 0"
        causes.append(faults.invalid("spec.leaseTransitions", spec["leaseTransitions"], detail))
    return causes


def default_lease(obj: Object) -> None:
    """Coordinated election is behind a gate that is off in v1.36; its fields are dropped."""
    for name in ("strategy", "preferredHolder"):
        (obj.get("spec") or {}).pop(name, None)


def _lease_cells(obj: Object, now: float) -> Cells:
    return [meta.name(obj), (obj.get("spec") or {}).get("holderIdentity") or "", age(obj, now)]


RULES = (
    KindRules(resource=EVENTS, faults=event, update_faults=lambda new, old: event(new), columns=COLUMNS, cells=_cells),
    KindRules(resource=EVENTS_V1, faults=event_v1, columns=COLUMNS, cells=_cells),
    KindRules(
        resource=LEASES,
        default=default_lease,
        faults=lease,
        update_faults=lambda new, old: lease(new),
        columns=(NAME, *table.texts("Holder"), AGE),
        cells=_lease_cells,
    ),
)
