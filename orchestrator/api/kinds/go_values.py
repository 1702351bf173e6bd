"""Values as kube-apiserver's messages show them where it has a struct: as JSON of its own types.

Those have no JSON names: every field is shown by its Go name, in the order of the type, whether set or not. A shape
lists the fields as (Go name, name on the wire, shape of what is inside). Source: pkg/apis/resource/types.go, core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from orchestrator.api import quantity
from orchestrator.api.kinds import faults
from orchestrator.api.status import Cause


class Shape(Struct, frozen=True):
    """`is_list`: of such values; without fields it is data that is shown as it came."""

    fields: tuple[tuple[str, str, Shape], ...] = ()
    zero: Any = None
    is_list: bool = False
    is_quantities: bool = False


DATA, TEXT, NUMBER = Shape(), Shape(zero=""), Shape(zero=0)
QUANTITIES = Shape(is_quantities=True)


def _struct(*fields: tuple[str, str, Shape], zero: Any = None) -> Shape:
    return Shape(fields, zero)


def many(shape: Shape) -> Shape:
    return Shape(shape.fields, is_list=True)


def _data(*names: str) -> Iterable[tuple[str, str, Shape]]:
    """Optional fields whose Go name is that on the wire with a capital."""
    return ((name[:1].upper() + name[1:], name, DATA) for name in names)


REQUIREMENT = _struct(("Key", "key", TEXT), ("Operator", "operator", TEXT), ("Values", "values", DATA))
NODE_TERM = _struct(
    ("MatchExpressions", "matchExpressions", many(REQUIREMENT)), ("MatchFields", "matchFields", many(REQUIREMENT))
)
NODE_SELECTOR = _struct(("NodeSelectorTerms", "nodeSelectorTerms", many(NODE_TERM)))
ATTRIBUTE = _struct(
    ("IntValue", "int", DATA), ("BoolValue", "bool", DATA), ("StringValue", "string", DATA),
    ("VersionValue", "version", DATA), ("IntValues", "ints", DATA), ("BoolValues", "bools", DATA),
    ("StringValues", "strings", DATA), ("VersionValues", "versions", DATA),
)  # fmt: skip
TOLERATION = _struct(
    ("Key", "key", TEXT), ("Operator", "operator", TEXT), ("Value", "value", TEXT), ("Effect", "effect", TEXT),
    ("TolerationSeconds", "tolerationSeconds", DATA),
)  # fmt: skip
SELECTOR = _struct(("CEL", "cel", _struct(("Expression", "expression", TEXT))))
_CAPACITY = ("Capacity", "capacity", _struct(("Requests", "requests", QUANTITIES)))
_CLASS = (
    ("DeviceClassName", "deviceClassName", TEXT), ("Selectors", "selectors", many(SELECTOR)),
    ("AllocationMode", "allocationMode", TEXT), ("Count", "count", NUMBER),
)  # fmt: skip
_TOLERATIONS = ("Tolerations", "tolerations", many(TOLERATION))
EXACTLY = _struct(*_CLASS, *_data("adminAccess"), _TOLERATIONS, _CAPACITY)
SUB_REQUEST = _struct(("Name", "name", TEXT), *_CLASS, _TOLERATIONS, _CAPACITY)
REQUEST = _struct(
    ("Name", "name", TEXT), ("Exactly", "exactly", EXACTLY), ("FirstAvailable", "firstAvailable", many(SUB_REQUEST))
)
CONSTRAINT = _struct(*_data("requests", "matchAttribute", "distinctAttribute"))
_OPAQUE = ("Opaque", "opaque", _struct(("Driver", "driver", TEXT), ("Parameters", "parameters", DATA)))
CONFIGURATION = _struct(*_data("requests"), _OPAQUE)
DEVICE_CLAIM = _struct(
    ("Requests", "requests", many(REQUEST)), ("Constraints", "constraints", many(CONSTRAINT)),
    ("Config", "config", many(CONFIGURATION)), zero={},
)  # fmt: skip
CLAIM_SPEC = _struct(("Devices", "devices", DEVICE_CLAIM), zero={})
RESULT = _struct(
    ("Request", "request", TEXT), ("Driver", "driver", TEXT), ("Pool", "pool", TEXT), ("Device", "device", TEXT),
    *_data("adminAccess"), _TOLERATIONS, *_data("bindingConditions", "bindingFailureConditions"),
    ("ShareID", "shareID", DATA), ("ConsumedCapacity", "consumedCapacity", QUANTITIES),
)  # fmt: skip
ALLOCATED_CONFIG = _struct(("Source", "source", TEXT), *_data("requests"), _OPAQUE)
ALLOCATION = _struct(
    ("Devices", "devices",
     _struct(("Results", "results", many(RESULT)), ("Config", "config", many(ALLOCATED_CONFIG)), zero={})),
    ("NodeSelector", "nodeSelector", NODE_SELECTOR),
    *_data("allocationTimestamp"),
)  # fmt: skip


def go_value(value: Any, shape: Shape) -> Any:
    """The value with Go's names and with the fields that it lacks."""
    if value is None:
        value = shape.zero
    if value is None:
        return None
    if shape.is_quantities:
        return {name: quantity.canonical(amount) for name, amount in sorted(value.items())}
    if shape.is_list and shape.fields:
        return [_fields(item, shape) for item in value]
    return _fields(value, shape) if shape.fields else value


def _fields(value: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    return {go: go_value(value.get(name), inner) for go, name, inner in shape.fields}


def immutable(path: str, new: Any, old: Any) -> list[Cause]:
    """Of two values with Go's names: a list that is empty is as good as none."""
    return [] if _bare(new) == _bare(old) else [faults.invalid(path, new, faults.IMMUTABLE)]


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: found for name, item in value.items() if (found := _bare(item)) is not None}
    return [_bare(item) for item in value] or None if isinstance(value, list) else value
