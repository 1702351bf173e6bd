"""HorizontalPodAutoscaler, kept as v2: the API server translates v1, and these rules see v2.

Source: autoscaling/v2 API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta, quantity
from orchestrator.api.kinds import faults, formats, table
from orchestrator.api.kinds.resource_faults import container_resource_name
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, age
from orchestrator.api.kinds.values import nonnegative
from orchestrator.api.meta import Object
from orchestrator.api.resources import HORIZONTALPODAUTOSCALERS
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

DEFAULT_CPU_PERCENT = 80
STABILIZATION_MAX_S, PERIOD_MAX_S = 3600, 1800
METRICS_SHOWN_MAX = 2
SOURCES = {
    "Object": "object",
    "External": "external",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}
SCALE_UP: Json = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
SCALE_DOWN: Json = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


def _cpu(percent: int) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        spec["metrics"] = [_cpu(DEFAULT_CPU_PERCENT)]
    behavior = spec.get("behavior")
    if behavior is not None:
        behavior["scaleUp"] = {**SCALE_UP, **(behavior.get("scaleUp") or {})}
        behavior["scaleDown"] = {**SCALE_DOWN, **(behavior.get("scaleDown") or {})}


def autoscaler(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    low, high = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    causes: list[Cause] = []
    if low is not None and low < 1:
        causes.append(faults.invalid("spec.minReplicas", low, "must be greater than or equal to 1"))
    if not high:
        causes.append(faults.required("spec.maxReplicas", "must be set and greater than 0"))
    elif high < 1:
        causes.append(faults.invalid("spec.maxReplicas", high, "must be greater than or equal to 1"))
    if low is not None and high < low:
        detail = "must be greater than or equal to `minReplicas`"
        causes.append(faults.invalid("spec.maxReplicas", high, detail))
    causes += _reference(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef")
    causes += _scaled_version(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef.apiVersion")
    if low == 0 and not {"Object", "External"} & {metric.get("type") for metric in spec.get("metrics") or ()}:
        detail = "must specify at least one Object or External metric to support scaling to zero replicas"
        causes.append(faults.forbidden("spec.metrics", detail))
    for index, metric in enumerate(spec.get("metrics") or ()):
        causes += _metric(metric, f"spec.metrics[{index}]")
    for name in ("scaleUp", "scaleDown"):
        rules = (spec.get("behavior") or {}).get(name)
        if rules is not None:
            causes += _scaling_rules(rules, f"spec.behavior.{name}")
    return causes


def _reference(reference: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for name in ("kind", "name"):
        value = reference.get(name) or ""
        causes += faults.each(f"{path}.{name}", value, formats.path_segment(value)) if value else [faults.required(f"{path}.{name}")]  # fmt: skip  # noqa: E501
    return causes


def _scaled_version(reference: Json, path: str) -> list[Cause]:
    """What is scaled must say its group; of the core group only one kind can be scaled."""
    version = reference.get("apiVersion") or ""
    if "/" in version or reference.get("kind") == "ReplicationController":
        return []
    return [faults.invalid(path, version, "apiVersion must specify API group")]


def _metric(metric: Json, path: str) -> list[Cause]:
    kind = metric.get("type") or ""
    causes: list[Cause] = []
    if not kind:
        causes.append(faults.required(f"{path}.type", "must specify a metric source type"))
    if kind not in SOURCES:
        causes.append(faults.not_supported(f"{path}.type", kind, sorted(SOURCES)))
    given = [name for name in SOURCES.values() if metric.get(name) is not None]
    if given:
        causes += _source(given[0], metric[given[0]], f"{path}.{given[0]}")
    wanted = SOURCES.get(kind)
    if wanted is not None and wanted not in given:
        detail = "must populate information for the given metric source"
        causes.append(faults.required(f"{path}.{wanted}", detail))
    if len(given) > 1:
        detail = "must populate the given metric source only"
        causes += [faults.forbidden(f"{path}.{name}", detail) for name in given if name != wanted]
    return causes


def _source(kind: str, source: Json, path: str) -> list[Cause]:
    target, at = source.get("target") or {}, f"{path}.target"
    causes: list[Cause] = []
    if kind in ("resource", "containerResource"):
        name = source.get("name") or ""
        if not name:
            causes.append(faults.required(f"{path}.name", "must specify a resource name"))
        if kind == "containerResource":
            causes += container_resource_name(name, f"{path}.name")
            if not source.get("container"):
                causes.append(faults.required(f"{path}.container", "must specify a container"))
        causes += _target(target, at)
        percent, average = target.get("averageUtilization"), target.get("averageValue")
        if percent is None and average is None:
            detail = "must set either a target raw value or a target utilization"
            causes.append(faults.required(f"{at}.averageUtilization", detail))
        if percent is not None and average is not None:
            detail = "may not set both a target raw value and a target utilization"
            causes.append(faults.forbidden(f"{at}.averageValue", detail))
        return causes
    if kind == "object":
        causes += _reference(source.get("describedObject") or {}, f"{path}.describedObject")
    metric = (source.get("metric") or {}).get("name") or ""
    if not metric:
        causes.append(faults.required(f"{path}.metric.name", "must specify a metric name"))
    causes += faults.each(f"{path}.metric.name", metric, formats.path_segment(metric) if metric else ())
    causes += _target(target, at)
    if target.get("averageValue") is None and (kind == "pods" or target.get("value") is None):
        detail = {
            "pods": "must specify a positive target averageValue",
            "object": "must set either a target value or averageValue",
            "external": "must set either a target value for metric or a per-pod target",
        }[kind]
        causes.append(faults.required(f"{at}.averageValue", detail))
    return causes


def _target(target: Json, path: str) -> list[Cause]:
    kind, causes = target.get("type") or "", []
    if not kind:
        causes.append(faults.required(f"{path}.type", "must specify a metric target type"))
    if kind not in ("Utilization", "Value", "AverageValue"):
        detail = "must be either Utilization, Value, or AverageValue"
        causes.append(faults.invalid(f"{path}.type", kind, detail))
    for name in ("value", "averageValue"):
        if target.get(name) is not None and quantity.parse(target[name]) <= 0:
            causes.append(faults.invalid(f"{path}.{name}", target[name], "must be positive"))
    percent = target.get("averageUtilization")
    if percent is not None and percent < 1:
        causes.append(faults.invalid(f"{path}.averageUtilization", percent, "must be greater than 0"))
    return causes


def _scaling_rules(rules: Json, path: str) -> list[Cause]:
    window, causes = rules.get("stabilizationWindowSeconds"), []
    at = f"{path}.stabilizationWindowSeconds"
    if window is not None and window < 0:
        causes.append(faults.invalid(at, window, "must be greater than or equal to zero"))
    if window is not None and window > STABILIZATION_MAX_S:
        causes.append(faults.invalid(at, window, f"must be less than or equal to {STABILIZATION_MAX_S}"))
    policy = rules.get("selectPolicy")
    if policy is not None and policy not in ("Disabled", "Max", "Min"):
        causes.append(faults.not_supported(f"{path}.selectPolicy", policy, ("Disabled", "Max", "Min")))
    if not rules.get("policies"):
        causes.append(faults.required(f"{path}.policies", "must specify at least one Policy"))
    for index, found in enumerate(rules.get("policies") or ()):
        where, kind = f"{path}.policies[{index}]", found.get("type") or ""
        if kind not in ("Pods", "Percent"):
            causes.append(faults.not_supported(f"{where}.type", kind, ("Percent", "Pods")))
        for name in ("value", "periodSeconds"):
            if found.get(name, 0) <= 0:
                causes.append(faults.invalid(f"{where}.{name}", found.get(name, 0), "must be greater than zero"))
        if found.get("periodSeconds", 0) > PERIOD_MAX_S:
            detail = f"must be less than or equal to {PERIOD_MAX_S}"
            causes.append(faults.invalid(f"{where}.periodSeconds", found["periodSeconds"], detail))
    return causes


def status_update(new: Object, old: Object) -> list[Cause]:
    return nonnegative(new.get("status") or {}, "status", "currentReplicas", "desiredReplicas")


def _cells(obj: Object, now: float) -> Cells:
    spec, status = _spec(obj), obj.get("status") or {}
    target = spec.get("scaleTargetRef") or {}
    low = str(spec["minReplicas"]) if spec.get("minReplicas") is not None else "<unset>"
    return [
        meta.name(obj),
        f"{target.get('kind')}/{target.get('name')}",
        _metrics_text(spec.get("metrics") or [], status.get("currentMetrics") or []),
        low,
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age(obj, now),
    ]


def _metrics_text(metrics: list[Json], current: list[Json]) -> str:
    shown = [_metric_text(metric, current[i] if i < len(current) else {}) for i, metric in enumerate(metrics)]
    if not shown:
        return "<none>"
    text = ", ".join(shown[:METRICS_SHOWN_MAX])
    return f"{text} + {len(shown) - METRICS_SHOWN_MAX} more..." if len(shown) > METRICS_SHOWN_MAX else text


def _metric_text(metric: Json, current: Json) -> str:
    name = SOURCES.get(metric.get("type") or "")
    if name is None:
        return "<unknown type>"
    source = metric.get(name) or {}
    target, now = source.get("target") or {}, (current.get(name) or {}).get("current") or {}
    if name in ("resource", "containerResource"):
        if target.get("averageValue") is not None:
            return f"{source.get('name')}: {now.get('averageValue') or '<unknown>'}/{target['averageValue']}"
        used = f"{now['averageUtilization']}%" if now.get("averageUtilization") is not None else "<unknown>"
        wanted = f"{target['averageUtilization']}%" if target.get("averageUtilization") is not None else "<auto>"
        return f"{source.get('name')}: {used}/{wanted}"
    if target.get("averageValue") is not None:
        average = "" if name == "pods" else " (avg)"
        return f"{now.get('averageValue') or '<unknown>'}/{target['averageValue']}{average}"
    return f"{now.get('value') or '<unknown>'}/{target.get('value')}"


COLUMNS = (NAME, *table.texts("Reference", "Targets", "MinPods", "MaxPods", "Replicas"), AGE)

RULES = (
    KindRules(
        resource=HORIZONTALPODAUTOSCALERS,
        default=default,
        faults=autoscaler,
        update_faults=lambda new, old: autoscaler(new),
        status_faults=status_update,
        columns=COLUMNS,
        cells=_cells,
    ),
)
