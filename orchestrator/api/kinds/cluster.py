"""Namespace and Node: where objects live, and where pods run.

A namespace carries its own name as a label and is held by the finalizer `kubernetes` until it is empty. A node's pod
ranges and provider id are set once. Source: core/v1 API reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.api import conditions, meta
from orchestrator.api.kinds import faults, formats, metadata, podspec, resource_faults, scheduling_faults, table
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import AGE, NAME, Cells, Column, age, wide
from orchestrator.api.meta import Object
from orchestrator.api.resources import COMPONENTSTATUSES, NAMESPACES, NODES
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

NAME_LABEL = "kubernetes.io/metadata.name"
FINALIZER = "kubernetes"
ROLE_PREFIX, ROLE_LABEL = "node-role.kubernetes.io/", "kubernetes.io/role"
TAINTS = "metadata.taints"  # sic: the path that kube-apiserver names
ONCE = 'node updates may not change {} except from "" to valid'


def default_namespace(obj: Object) -> None:
    name = meta.name(obj)
    if name:
        obj["metadata"].setdefault("labels", {})[NAME_LABEL] = name
    status = obj.setdefault("status", {})
    if not status.get("phase"):
        status["phase"] = "Active"


def create_namespace(obj: Object) -> None:
    obj["status"] = {"phase": "Active"}
    finalizers = obj.setdefault("spec", {}).setdefault("finalizers", [])
    if FINALIZER not in finalizers:
        finalizers.append(FINALIZER)
    if meta.name(obj):
        obj["metadata"].setdefault("labels", {})[NAME_LABEL] = meta.name(obj)


def namespace(obj: Object) -> list[Cause]:
    path = "spec.finalizers"
    causes: list[Cause] = []
    for name in (obj.get("spec") or {}).get("finalizers") or ():
        causes += faults.each(path, name, formats.qualified_name(name))
        if "/" not in name and name not in metadata.STANDARD_FINALIZERS:
            causes.append(faults.invalid(path, name, metadata.NO_FINALIZER))
    return causes


def namespace_status(new: Object, old: Object) -> list[Cause]:
    is_deleting = meta.is_deleting(new)
    phase, wanted = (new.get("status") or {}).get("phase") or "", "Terminating" if is_deleting else "Active"
    rule = f"may only be '{wanted}' if `deletionTimestamp` is {'not empty' if is_deleting else 'empty'}"
    return [] if phase == wanted else [faults.invalid("status.Phase", phase, rule)]


def update_namespace(new: Object, old: Object) -> None:
    """Finalizers change through /finalize alone."""
    spec = new.setdefault("spec", {})
    spec["finalizers"] = (old.get("spec") or {}).get("finalizers") or []
    if not spec["finalizers"]:
        del spec["finalizers"]


def default_node(obj: Object) -> None:
    status = obj.get("status") or {}
    for name in ("capacity", "allocatable"):
        podspec.round_up(status.get(name))
    if status.get("allocatable") is None and status.get("capacity") is not None:
        status["allocatable"] = dict(status["capacity"])
    spec = obj.setdefault("spec", {})
    if spec.get("podCIDR") and (spec.get("podCIDRs") or [""])[0] != spec["podCIDR"]:  # the older field is believed
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs") and not spec.get("podCIDR"):
        spec["podCIDR"] = spec["podCIDRs"][0]


def node(obj: Object) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = taints(spec.get("taints") or (), TAINTS) + _amounts(obj)
    ranges = spec.get("podCIDRs") or []
    for index, value in enumerate(ranges):
        causes += faults.each(f"spec.podCIDRs[{index}]", value, formats.cidr(value))
    if len(ranges) > 2 or (len(ranges) == 2 and len({":" in value for value in ranges}) == 1):
        detail = "may specify no more than one CIDR for each IP family"
        causes.append(faults.invalid("spec.podCIDRs", ranges, detail))
    return causes


def taints(found: Sequence[Json], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(found):
        at, key, value = f"{path}[{index}]", taint.get("key") or "", taint.get("value") or ""
        effect = taint.get("effect") or ""
        causes += faults.each(f"{at}.key", key, formats.qualified_name(key))
        if complaints := formats.label_value(value):
            causes.append(faults.invalid(f"{at}.value", value, ";".join(complaints)))
        if not effect:
            causes.append(faults.required(f"{at}.effect"))
        else:
            causes += scheduling_faults.taint_effect(effect, f"{at}.effect")
        if (key, effect) in seen:
            causes.append(
                Cause(
                    at,
                    "FieldValueDuplicate",
                    f"Duplicate value: {faults.shown(taint)}: taints must be unique by key and effect pair",
                )
            )
        seen.add((key, effect))
    return causes


def _amounts(obj: Object) -> list[Cause]:
    status = obj.get("status") or {}
    return [
        cause
        for name in ("capacity", "allocatable")
        for resource, value in (status.get(name) or {}).items()
        for cause in resource_faults.amount(resource, value, f"status.{name}.{resource}")
    ]


def node_update(new: Object, old: Object) -> list[Cause]:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    causes = _amounts(new)
    addresses = (new.get("status") or {}).get("addresses") or []
    causes += [
        faults.duplicate(f"status.addresses[{index}]", address)
        for index, address in enumerate(addresses)
        if address in addresses[:index]
    ]
    if before.get("podCIDRs") and spec.get("podCIDRs") != before["podCIDRs"]:
        causes.append(faults.forbidden("spec.podCIDRs", ONCE.format("podCIDR")))
    if before.get("providerID") and spec.get("providerID") != before["providerID"]:
        causes.append(faults.forbidden("spec.providerID", ONCE.format("providerID")))
    if (spec.get("externalID") or "") != (before.get("externalID") or ""):
        causes.append(faults.forbidden("spec.externalID", "may not be updated"))
    return causes + taints(spec.get("taints") or (), TAINTS)


def drop_dynamic_configuration(new: Object, old: Object) -> None:
    """Kubelets no longer take their configuration from the API; what an older server kept of that may stay."""
    for part, name in (("spec", "configSource"), ("status", "config")):
        if (old.get(part) or {}).get(name) is None:
            (new.get(part) or {}).pop(name, None)


def _namespace_cells(obj: Object, now: float) -> Cells:
    return [meta.name(obj), (obj.get("status") or {}).get("phase") or "", age(obj, now)]


def _node_cells(obj: Object, now: float) -> Cells:
    status = obj.get("status") or {}
    info = status.get("nodeInfo") or {}
    return [
        meta.name(obj),
        _node_state(obj),
        _roles(obj),
        age(obj, now),
        info.get("kubeletVersion") or "",
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or "<unknown>",
        _kernel(info),
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _kernel(info: Json) -> str:
    version, architecture = info.get("kernelVersion") or "<unknown>", info.get("architecture")
    return f"{version} ({architecture})" if architecture else version


def _node_state(obj: Object) -> str:
    condition = conditions.find((obj.get("status") or {}).get("conditions"), "Ready")
    state = {"True": "Ready"}.get(condition.get("status", ""), "NotReady") if condition else "Unknown"
    return f"{state},SchedulingDisabled" if (obj.get("spec") or {}).get("unschedulable") else state


def _roles(obj: Object) -> str:
    found = set()
    for key, value in meta.labels(obj).items():
        if key.startswith(ROLE_PREFIX) and len(key) > len(ROLE_PREFIX):
            found.add(key[len(ROLE_PREFIX) :])
        elif key == ROLE_LABEL and value:
            found.add(value)
    return ",".join(sorted(found)) or "<none>"


def _address(status: Json, kind: str) -> str:
    return next((a["address"] for a in status.get("addresses") or () if a.get("type") == kind), "<none>")


def _component_cells(obj: Object, now: float) -> Cells:
    """The kind is deprecated: what it shows is the one condition of type Healthy."""
    healthy = conditions.find(obj.get("conditions"), "Healthy") or {}
    state = {"True": "Healthy", "False": "Unhealthy"}.get(healthy.get("status", ""), "Unknown")
    return [meta.name(obj), state, healthy.get("message") or "", healthy.get("error") or ""]


RULES = (
    KindRules(
        resource=COMPONENTSTATUSES,
        columns=(NAME, *table.texts("Status", "Message", "Error")),
        cells=_component_cells,
    ),
    KindRules(
        resource=NAMESPACES,
        name_format=formats.dns_label,
        default=default_namespace,
        on_create=create_namespace,
        on_update=update_namespace,
        faults=namespace,
        status_faults=namespace_status,
        columns=(NAME, Column("Status"), AGE),
        cells=_namespace_cells,
    ),
    KindRules(
        resource=NODES,
        default=default_node,
        on_create=lambda obj: drop_dynamic_configuration(obj, {}),
        on_update=drop_dynamic_configuration,
        on_status_update=drop_dynamic_configuration,
        faults=node,
        update_faults=lambda new, old: node(new) + node_update(new, old),
        status_faults=node_update,
        clears_status=False,
        columns=(
            NAME,
            *table.texts("Status", "Roles"),
            AGE,
            Column("Version"),
            *map(wide, ("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime")),
        ),
        cells=_node_cells,
    ),
)
