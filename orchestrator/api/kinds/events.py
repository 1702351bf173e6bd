"""Event and Lease: what happened, and who is alive.

Events of both API groups are kept as v1; the API server translates, and these rules see v1.
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


def event(obj: Object, reporter: str = "reportingComponent") -> list[Cause]:
    """A v1 event: it must lie in the namespace of what it is about; one with an eventTime is held to the new rules.
    `reporter` is what the version that was written calls the controller's field."""
    about, namespace = obj.get("involvedObject") or {}, meta.namespace(obj)
    mismatch = faults.invalid(
        "involvedObject.namespace", about.get("namespace") or "", "does not match event.namespace"
    )
    if not obj.get("eventTime"):
        expected = (namespace,) if about.get("namespace") else ("", "default")
        held = about.get("namespace") or namespace
        return [] if held in expected or (not about.get("namespace") and namespace == "default") else [mismatch]
    causes = [mismatch] if not about.get("namespace") and namespace not in ("default", "kube-system") else []
    return causes + _new_rules(obj, reporter)


def _new_rules(obj: Object, reporter: str) -> list[Cause]:
    controller = obj.get("reportingController") or obj.get("reportingComponent") or ""
    causes = [] if controller else [faults.required(reporter)]
    causes += faults.each(reporter, controller, formats.qualified_name(controller))
    for field in ("reportingInstance", "action", "reason"):
        text = obj.get(field) or ""
        if not text:
            causes.append(faults.required(field))
        elif len(text) > TEXT_MAX[field]:
            causes.append(faults.invalid(field, "", f"can have at most {TEXT_MAX[field]} characters"))
    if len(obj.get("note") or obj.get("message") or "") > TEXT_MAX["note"]:
        causes.append(faults.invalid("message", "", f"can have at most {TEXT_MAX['note']} characters"))
    return causes


# What events.k8s.io/v1 lets nobody change, by the names of v1.
FIXED = (
    "involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count", "type", "eventTime",
    "action", "related", "reportingComponent", "reportingInstance",
)  # fmt: skip
UNSET: dict[str, Any] = {  # what those are that are no texts, where nobody set them
    "involvedObject": {}, "source": {}, "count": 0, "eventTime": None, "firstTimestamp": None, "lastTimestamp": None,
    "related": None,
}  # fmt: skip
V1_NAMES = {"reportingComponent": "reportingController"}
OF_OLD = ("firstTimestamp", "lastTimestamp", "count", "source")


def event_v1(obj: Object) -> list[Cause]:
    """Created by events.k8s.io/v1, which asks for more, and has no place for how events were told before."""
    causes = [*event(obj, "reportingController"), *_series(obj)]
    if not obj.get("eventTime"):
        causes.append(faults.required("eventTime"))
    if (kind := obj.get("type") or "") not in ("Normal", "Warning"):
        causes.append(faults.invalid("type", "", f"has invalid value: {kind}"))
    return causes + [faults.invalid(name, "", "needs to be unset") for name in OF_OLD if obj.get(name)]


def event_v1_update(new: Object, old: Object) -> list[Cause]:
    causes = event(new, "reportingController")
    if new.get("series") != old.get("series"):
        causes += _series(new)
    for name in FIXED:
        unset = UNSET.get(name, "")
        causes += faults.immutable(V1_NAMES.get(name, name), new.get(name) or unset, old.get(name) or unset)
    return causes


def _series(obj: Object) -> list[Cause]:
    series = obj.get("series")
    if series is None:
        return []
    causes = []
    if series.get("count", 0) < 2:
        causes.append(faults.invalid("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        causes.append(faults.required("series.lastObservedTime"))
    return causes


def _cells(event: Object, now: float) -> Cells:
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


def drop_election(obj: Object) -> None:
    """Coordinated election is behind a gate that is off in v1.36; its fields are dropped."""
    for name in ("strategy", "preferredHolder"):
        (obj.get("spec") or {}).pop(name, None)


def _lease_cells(obj: Object, now: float) -> Cells:
    return [meta.name(obj), (obj.get("spec") or {}).get("holderIdentity") or "", age(obj, now)]


RULES = (
    KindRules(
        resource=EVENTS,
        metadata_last=True,
        faults=event,
        update_faults=lambda new, old: event(new),
        columns=COLUMNS,
        cells=_cells,
    ),
    KindRules(resource=EVENTS_V1, faults=event_v1, update_faults=event_v1_update, columns=COLUMNS, cells=_cells),
    KindRules(
        resource=LEASES,
        on_create=drop_election,
        on_update=lambda new, old: drop_election(new),
        faults=lease,
        update_faults=lambda new, old: lease(new),
        columns=(NAME, *table.texts("Holder"), AGE),
        cells=_lease_cells,
    ),
)
