"""Tables: the columns that kubectl prints, computed by the server (`Accept: …;as=Table`).

A column with priority 1 is shown by `-o wide` only. Cells are strings, numbers or truth values in column order.
Source: meta/v1 Table; kubectl's printers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from msgspec import Struct

from orchestrator.api import meta, schema

Cells = list[Any]


class Column(Struct, frozen=True):
    name: str
    type: str = "string"
    priority: int = 0
    format: str = ""
    description: str = ""

    def to_json(self, group_resource: str = "") -> dict[str, Any]:
        """A TableColumnDefinition of this resource."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description or _description(group_resource, self.name),
            "priority": self.priority,
        }


_COMMON = {"Name": "=io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta.name",
           "Age": "=io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta.creationTimestamp",
           "Created At": "=io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta.creationTimestamp"}  # fmt: skip


@cache
def _description(group_resource: str, name: str) -> str:
    """What a column holds: in `columns.json`, as text or as `=` and the published field whose description it is."""
    text = _descriptions().get(group_resource, {}).get(name, _COMMON.get(name, name))
    if not text.startswith("="):
        return text
    definition, _, field = text[1:].rpartition(".")
    found: str = schema.definitions().read(definition)["properties"][field]["description"]
    return found


@cache
def _descriptions() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = orjson.loads((Path(__file__).parent / "columns.json").read_bytes())
    return found


NAME = Column("Name", format="name")
AGE = Column("Age")
CREATED_AT = Column("Created At", "date")


def wide(name: str, type_: str = "string") -> Column:
    return Column(name, type_, priority=1)


def integer(name: str) -> Column:
    return Column(name, "integer")


def texts(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name) for name in names)


def age(obj: Mapping[str, Any], now: float) -> str:
    return since(meta.metadata(obj).get("creationTimestamp"), now)


def since(timestamp: str | None, now: float) -> str:
    """How long ago a wire time was, as kubectl shows it."""
    return duration(now - meta.parse_time(timestamp)) if timestamp else "<unknown>"


def duration(seconds: float) -> str:
    """Two or three significant figures: `0s`, `119s`, `5m30s`, `3h`, `2d4h`, `400d`, `2y30d`."""
    if seconds <= -2:
        return "<invalid>"
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _two(days, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{days}d"
    if hours < 24 * 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}" + (f"{small}{small_unit}" if small else "")


def images(template_spec: Mapping[str, Any]) -> tuple[str, str]:
    """(names, images) of a pod template's containers, for wide columns."""
    containers = template_spec.get("containers") or ()
    return ",".join(c.get("name", "") for c in containers), ",".join(c.get("image", "") for c in containers)


def label_text(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector in the string grammar; `<none>` where it selects everything or nothing."""
    selector = selector or {}
    parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression.get("key", ""), ",".join(sorted(expression.get("values") or ()))
        text = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "DoesNotExist": f"!{key}"}
        parts.append((key, text.get(expression.get("operator", ""), key)))
    return ",".join(text for _, text in sorted(parts)) or "<none>"
