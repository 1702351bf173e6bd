"""Which names a definition gets: what its status says, from its spec and from what the others of its group have.

Names are never taken from a definition that has them. Source: k8s.io/apiextensions-apiserver, status conditions;
Concepts, "CustomResourceDefinition".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.api import conditions, meta
from orchestrator.api.kinds import definitions
from orchestrator.api.meta import Object


def next_status(definition: Object, others: Iterable[Object], now: str) -> Object:
    """The status that the definition should have. `others` are the other definitions of its group; `now` wire time."""
    status: Object = dict(definition.get("status") or {})
    names, trouble = _accepted(definition, others)
    status["acceptedNames"] = names
    reason, message = trouble or ("NoConflicts", "no conflicts found")
    found = status.get("conditions")
    found = _set(found, "NamesAccepted", not trouble, reason, message, now)
    before = conditions.find(found, "Established")
    if before is None or before.get("status") != "True":
        reason, message = "InitialNamesAccepted", "the initial names have been accepted"
        if trouble:
            reason, message = "NotAccepted", "not all names are accepted"
        found = _set(found, "Established", not trouble, reason, message, now)
    if definitions.is_protected(definition["spec"]["group"]):
        state, message = definitions.approval(definition)
        reason = {"Bypassed": "UnapprovedAnnotation"}.get(state, f"{state}Annotation")
        found = _set(found, "KubernetesAPIApprovalPolicyConformant", state == "Approved", reason, message, now)
    status["conditions"] = found
    return status


def _set(
    found: list[conditions.Condition] | None, kind: str, holds: bool, reason: str, message: str, now: str
) -> list[conditions.Condition]:
    condition = {"type": kind, "status": "True" if holds else "False", "reason": reason, "message": message}
    before = conditions.find(found, kind)
    if before is not None and all(before.get(key) == value for key, value in condition.items()):
        return list(found or ())
    return conditions.updated(found, condition, now)


def _accepted(definition: Object, others: Iterable[Object]) -> tuple[dict[str, Any], tuple[str, str] | None]:
    """(acceptedNames, the last conflict as reason and message)."""
    asked = definition["spec"].get("names") or {}
    has = (definition.get("status") or {}).get("acceptedNames") or {}
    resources: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        taken = (other.get("status") or {}).get("acceptedNames") or {}
        resources |= {taken.get("plural", ""), taken.get("singular", ""), *(taken.get("shortNames") or ())}
        kinds |= {taken.get("kind", ""), taken.get("listKind", "")}
    names, trouble = dict(has), None

    def conflict(name: str, text: str, used: set[str]) -> str:
        return f'"{text}" is already in use' if text != has.get(name) and text in used else ""

    for name, used in (("plural", resources), ("singular", resources)):
        if why := conflict(name, asked.get(name, ""), used):
            trouble = (f"{name.capitalize()}Conflict", why)
        else:
            names[name] = asked.get(name, "")
    new = [text for text in asked.get("shortNames") or () if text not in (has.get("shortNames") or ())]
    taken_names = [f'"{text}" is already in use' for text in new if text in resources]
    if taken_names:
        text = taken_names[0] if len(taken_names) == 1 else f"[{', '.join(taken_names)}]"
        trouble = ("ShortNamesConflict", text)
    else:
        names["shortNames"] = asked.get("shortNames")
    for name, used in (("kind", kinds), ("listKind", kinds)):
        if why := conflict(name, asked.get(name, ""), used):
            trouble = (f"{name[0].upper()}{name[1:]}Conflict", why)
        else:
            names[name] = asked.get(name, "")
    names["categories"] = asked.get("categories")
    return {key: value for key, value in names.items() if value is not None}, trouble


def is_served(definition: Object) -> bool:
    return conditions.is_true(definition, "Established") and bool(meta.uid(definition))
