"""What can be wrong with conditions of the common type. Source: apimachinery, meta/v1 Condition."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.api.kinds import faults, formats
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

REASON_MAX, MESSAGE_MAX = 1024, 32 * 1024  # bytes
_REASON = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_REASON_RULE = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')"  # noqa: E501


def of(conditions: Sequence[Json], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        at, kind = f"{path}[{index}]", condition.get("type") or ""
        if kind in seen:
            causes.append(faults.duplicate(f"{at}.type", kind))
        seen.add(kind)
        causes += _condition(condition, at)
    return causes


def _condition(condition: Json, path: str) -> list[Cause]:
    kind, status = condition.get("type") or "", condition.get("status") or ""
    reason, generation = condition.get("reason") or "", condition.get("observedGeneration") or 0
    causes = faults.each(f"{path}.type", kind, formats.qualified_name(kind))
    if status not in ("False", "True", "Unknown"):
        causes.append(faults.not_supported(f"{path}.status", status, ("False", "True", "Unknown")))
    if generation < 0:
        detail = "must be greater than or equal to zero"
        causes.append(faults.invalid(f"{path}.observedGeneration", generation, detail))
    if not condition.get("lastTransitionTime"):
        causes.append(faults.required(f"{path}.lastTransitionTime"))
    if not reason:
        causes.append(faults.required(f"{path}.reason"))
    elif re.fullmatch(_REASON, reason) is None:
        causes.append(faults.invalid(f"{path}.reason", reason, _REASON_RULE))
    for name, bytes_max in (("reason", REASON_MAX), ("message", MESSAGE_MAX)):
        if len((condition.get(name) or "").encode()) > bytes_max:
            causes.append(faults.too_long(f"{path}.{name}", bytes_max))
    return causes
