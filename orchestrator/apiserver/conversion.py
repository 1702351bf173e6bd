"""Kinds that are served in two versions but kept in one: how an object reads in the other.

`events.k8s.io/v1` Events are kept as core v1 Events, `autoscaling/v1` HorizontalPodAutoscalers as `autoscaling/v2`:
what is written through one is read through the other. Both functions return new objects and lose nothing: what the
older autoscaler has no field for goes into an annotation, as upstream does it.
Source: upstream pkg/apis/events and pkg/apis/autoscaling, conversions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from msgspec import Struct

from orchestrator.api import decoding
from orchestrator.api.meta import Object
from orchestrator.api.resources import EVENTS_V1, HORIZONTALPODAUTOSCALERS, HORIZONTALPODAUTOSCALERS_V1, Resource

# core v1 → events.k8s.io/v1; every other field has the same name in both.
_EVENT_FIELDS = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_EVENT_FIELDS_BACK = {new: old for old, new in _EVENT_FIELDS.items()}
METRICS_ANNOTATION = "autoscaling.alpha.kubernetes.io/metrics"
BEHAVIOR_ANNOTATION = "autoscaling.alpha.kubernetes.io/behavior"
CONDITIONS_ANNOTATION = "autoscaling.alpha.kubernetes.io/conditions"
CURRENT_ANNOTATION = "autoscaling.alpha.kubernetes.io/current-metrics"


class Conversion(Struct, frozen=True):
    to_stored: Callable[[Object], Object]
    to_served: Callable[[Object], Object]
    is_remote: bool = False  # a webhook must be asked first


def _event_to_stored(obj: Object) -> Object:
    return {_EVENT_FIELDS_BACK.get(key, key): value for key, value in obj.items()} | {"apiVersion": "v1"}


def _event_to_served(obj: Object) -> Object:
    return {_EVENT_FIELDS.get(key, key): value for key, value in obj.items()} | {"apiVersion": EVENTS_V1.api_version}


def _cpu_target(metric: dict[str, Any]) -> int | None:
    """The percentage of a metric that autoscaling/v1 has a field for."""
    resource = metric.get("resource") or {}
    if metric.get("type") != "Resource" or resource.get("name") != "cpu":
        return None
    target = resource.get("target") or {}
    percentage: int | None = target.get("averageUtilization") if target.get("type") == "Utilization" else None
    return percentage


def _autoscaler_to_served(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = dict(obj["metadata"].get("annotations") or {})
    others = []
    for metric in spec.pop("metrics", None) or ():
        percentage = _cpu_target(metric)
        if percentage is not None and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = percentage
        else:
            others.append(metric)
    current = status.pop("currentMetrics", None) or []
    for metric in current:
        used = ((metric.get("resource") or {}).get("current") or {}).get("averageUtilization")
        if (metric.get("resource") or {}).get("name") == "cpu" and used is not None:
            status["currentCPUUtilizationPercentage"] = used
    for name, value in (
        (METRICS_ANNOTATION, others),
        (BEHAVIOR_ANNOTATION, spec.pop("behavior", None)),
        (CONDITIONS_ANNOTATION, status.pop("conditions", None)),
        (CURRENT_ANNOTATION, current),
    ):
        if value:
            annotations[name] = orjson.dumps(value).decode()
    metadata = {**obj["metadata"], **({"annotations": annotations} if annotations else {})}
    version = HORIZONTALPODAUTOSCALERS_V1.api_version
    status = {"currentReplicas": 0, "desiredReplicas": 0} | status
    return {**obj, "apiVersion": version, "metadata": metadata, "spec": spec, "status": status}


def _taken(annotations: dict[str, str], annotation: str, part: str, field: str) -> Any:
    """What an annotation keeps of a field that autoscaling/v1 has not; None where it could not be one: clients write
    there what they like."""
    try:
        value = orjson.loads(annotations.pop(annotation, "null"))
        holder: Object = {part: {field: value}}
        decoding.decode_as(holder, HORIZONTALPODAUTOSCALERS)
    except (orjson.JSONDecodeError, decoding.DecodeError):
        return None
    return holder[part].get(field)


def _autoscaler_to_stored(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = dict(obj["metadata"].get("annotations") or {})

    metrics = _taken(annotations, METRICS_ANNOTATION, "spec", "metrics") or []
    percentage = spec.pop("targetCPUUtilizationPercentage", None)
    if percentage is not None:
        target = {"type": "Utilization", "averageUtilization": percentage}
        metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}, *metrics]
    status.pop("currentCPUUtilizationPercentage", None)
    if not status.get("currentReplicas"):
        status.pop("currentReplicas", None)  # the one field that v1 writes and v2 does not
    for place, key, value in (
        (spec, "metrics", metrics),
        (spec, "behavior", _taken(annotations, BEHAVIOR_ANNOTATION, "spec", "behavior")),
        (status, "conditions", _taken(annotations, CONDITIONS_ANNOTATION, "status", "conditions")),
        (status, "currentMetrics", _taken(annotations, CURRENT_ANNOTATION, "status", "currentMetrics")),
    ):
        if value:
            place[key] = value
    metadata = {key: value for key, value in obj["metadata"].items() if key != "annotations"}
    if annotations:
        metadata["annotations"] = annotations
    return {**obj, "apiVersion": "autoscaling/v2", "metadata": metadata, "spec": spec, "status": status}


def custom_conversion(resource: Resource, stored: Resource) -> Conversion | None:
    """The conversion `None` of a custom resource: its versions differ in their schema and name only."""
    if resource.version == stored.version:
        return None

    def renamed(api_version: str) -> Callable[[Object], Object]:
        return lambda obj: {**obj, "apiVersion": api_version}

    return Conversion(renamed(stored.api_version), renamed(resource.api_version))


CONVERSIONS: dict[Resource, Conversion] = {
    EVENTS_V1: Conversion(_event_to_stored, _event_to_served),
    HORIZONTALPODAUTOSCALERS_V1: Conversion(_autoscaler_to_stored, _autoscaler_to_served),
}
