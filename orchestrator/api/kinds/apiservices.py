"""APIService: defaults, validation, columns.

Source: apiregistration.k8s.io/v1; upstream kube-aggregator pkg/apis/apiregistration, validation.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from orchestrator.api import conditions, meta
from orchestrator.api.kinds import faults, formats
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, Column, age
from orchestrator.api.meta import Object
from orchestrator.api.resources import APISERVICES
from orchestrator.api.status import Cause

GROUP_PRIORITY_MAX = 20_000
VERSION_PRIORITY_MAX = 1_000
AVAILABLE = "Available"
STATUSES = ("False", "True", "Unknown")


def default(obj: Object) -> None:
    service = (obj.get("spec") or {}).get("service")
    if service is not None:
        service.setdefault("port", 443)


def local_condition(now: str) -> conditions.Condition:
    return {
        "type": AVAILABLE, "status": "True", "reason": "Local", "message": "Local APIServices are always available",
        "lastTransitionTime": now,
    }  # fmt: skip


def on_create(obj: Object) -> None:
    """What this server serves itself is available from the start."""
    if (obj.get("spec") or {}).get("service") is None:
        obj["status"] = {"conditions": [local_condition(obj["metadata"].get("creationTimestamp") or "")]}


def api_service(obj: Object) -> list[Cause]:
    spec: Mapping[str, Any] = obj.get("spec") or {}
    group, version = spec.get("group") or "", spec.get("version") or ""
    causes = []
    for field in ("name", "generateName"):
        causes += _name(f"metadata.{field}", meta.metadata(obj).get(field) or "", f"{version}.{group}")
    if not group and version != "v1":
        causes.append(faults.required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    if group:
        causes += faults.each("spec.group", group, formats.dns_subdomain(group))
    causes += faults.each("spec.version", version, formats.dns1035_label(version))
    for field, most in (("groupPriorityMinimum", GROUP_PRIORITY_MAX), ("versionPriority", VERSION_PRIORITY_MAX)):
        value = spec.get(field) or 0
        if not 0 < value <= most:
            causes.append(faults.invalid(f"spec.{field}", value, f"must be positive and less than {most}"))
    return causes + (_remote(spec) if spec.get("service") is not None else _local(spec))


def _name(path: str, name: str, wanted: str) -> list[Cause]:
    if not name or formats.path_segment(name) or name == wanted:
        return []  # the first two are said of every name
    return [faults.invalid(path, name, f'must be `spec.version+"."+spec.group`: {faults.shown(wanted)}')]


def _local(spec: Mapping[str, Any]) -> list[Cause]:
    causes = []
    if bundle := spec.get("caBundle"):
        size = f"{len(base64.b64decode(bundle))} bytes"
        causes.append(faults.invalid("spec.caBundle", size, "local APIServices may not have a caBundle"))
    if spec.get("insecureSkipTLSVerify"):
        rule = "local APIServices may not have insecureSkipTLSVerify"
        causes.append(faults.invalid("spec.insecureSkipTLSVerify", True, rule))
    return causes


def _remote(spec: Mapping[str, Any]) -> list[Cause]:
    causes = [
        faults.required(f"spec.service.{field}") for field in ("namespace", "name") if not spec["service"].get(field)
    ]
    port = spec["service"].get("port") or 0
    if complaints := formats.port_number(port):
        causes.append(faults.invalid("spec.service.port", port, f"port is not valid: {', '.join(complaints)}"))
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        causes.append(faults.invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))
    return causes


def status_faults(new: Object, old: Object) -> list[Cause]:
    return [
        faults.not_supported(f"status.conditions[{index}].status", one.get("status"), STATUSES)
        for index, one in enumerate((new.get("status") or {}).get("conditions") or ())
        if one.get("status") not in STATUSES
    ]


def _cells(obj: Object, now: float) -> Cells:
    service = (obj.get("spec") or {}).get("service")
    where = f"{service.get('namespace')}/{service.get('name')}" if service else "Local"
    found = conditions.find((obj.get("status") or {}).get("conditions"), AVAILABLE) or {}
    status = found.get("status") or "Unknown"
    if status != "True" and found.get("reason"):
        status += f" ({found['reason']})"
    return [meta.name(obj), where, status, age(obj, now)]


RULES = (
    KindRules(
        resource=APISERVICES,
        name_format=formats.path_segment,
        default=default,
        on_create=on_create,
        faults=api_service,
        update_faults=lambda new, old: api_service(new),
        status_faults=status_faults,
        columns=(NAME, Column("Service"), Column("Available"), AGE),
        cells=_cells,
    ),
)
