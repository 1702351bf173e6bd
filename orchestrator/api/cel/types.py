"""What an expression's values are, as far as a schema says: scalars by name, lists, maps, structs with their fields.

`of_schema` makes a type of a JSON schema, one level at a time, as its fields are asked for. What has no type of its own
(any JSON, a quantity that may be a number too) has no field by that name at all, which is how kube-apiserver sees it.
Source: k8s.io/apiserver pkg/cel/common, SchemaDeclType; CEL language definition, types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

Json = Mapping[str, Any]
Resolve = Callable[[str], Json | None]  # from the last part of a `$ref` to its schema
_FORMATS = {"byte": "bytes", "date": "timestamp", "date-time": "timestamp", "duration": "duration"}
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_UNTYPED = ("io.k8s.apimachinery.pkg.api.resource.Quantity",)


class Scalar(Struct, frozen=True):
    name: str


class List(Struct, frozen=True):
    item: Type


class Map(Struct, frozen=True):
    key: Type
    value: Type


class Fields(Struct, frozen=True, eq=False):
    """A struct. `find` makes the type of a field by its name; None where there is none."""

    name: str
    find: Callable[[str], Type | None]


Type = Scalar | List | Map | Fields
DYN, STRING, INT, UINT, DOUBLE, BOOL, BYTES, NULL, TIMESTAMP, DURATION = map(
    Scalar, ("dyn", "string", "int", "uint", "double", "bool", "bytes", "null", "timestamp", "duration")
)


def named(name: str, fields: Mapping[str, Type]) -> Fields:
    return Fields(name, fields.get)


def shown(kind: Type) -> str:
    """As messages write it. A struct is called by its path from the kind on; kube-apiserver has a number in that."""
    if isinstance(kind, List):
        return f"list({shown(kind.item)})"
    if isinstance(kind, Map):
        return f"map({shown(kind.key)}, {shown(kind.value)})"
    return kind.name


def of_schema(schema: Json, name: str, resolve: Resolve) -> Type | None:
    """None for what cannot be told. `name` is what a struct is called."""
    reference = schema.get("$ref") or next((one["$ref"] for one in schema.get("allOf") or () if "$ref" in one), "")
    if reference:
        last = reference.rpartition("/")[2]
        if last == _INT_OR_STRING:
            return DYN
        found = resolve(last) if last not in _UNTYPED else None
        return of_schema(found, name, resolve) if found is not None else None
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return DYN
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) else kind:
        case "string":
            return Scalar(_FORMATS.get(schema.get("format") or "", "string"))
        case "integer":
            return INT
        case "number":
            return DOUBLE
        case "boolean":
            return BOOL
        case "array":
            item = of_schema(schema.get("items") or {}, f"{name}.@idx", resolve)
            return List(item) if item is not None else None
        case "object":
            return _object(schema, name, resolve)
    return None


def _object(schema: Json, name: str, resolve: Resolve) -> Type | None:
    if isinstance(others := schema.get("additionalProperties"), Mapping):
        value = of_schema(others, f"{name}.@elem", resolve)
        return Map(STRING, value) if value is not None else None
    properties = schema.get("properties") or {}

    def find(field: str) -> Type | None:
        return of_schema(properties[field], f"{name}.{field}", resolve) if field in properties else None

    return Fields(name, find)


# -- what every expression about a request may name --------------------------------------------------------------------

_STRINGS = List(STRING)
_USER = named(
    "kubernetes.UserInfo", {"username": STRING, "uid": STRING, "groups": _STRINGS, "extra": Map(STRING, _STRINGS)}
)
_KIND = named("kubernetes.GroupVersionKind", dict.fromkeys(("group", "version", "kind"), STRING))
_RESOURCE = named("kubernetes.GroupVersionResource", dict.fromkeys(("group", "version", "resource"), STRING))
REQUEST = named(
    "kubernetes.AdmissionRequest",
    {
        **dict.fromkeys(("subResource", "requestSubResource", "name", "namespace", "operation"), STRING),
        "kind": _KIND, "requestKind": _KIND, "resource": _RESOURCE, "requestResource": _RESOURCE, "userInfo": _USER,
        "dryRun": BOOL, "options": DYN,
    },
)  # fmt: skip
_LABELS = Map(STRING, STRING)
NAMESPACE = named(
    "kubernetes.Namespace",
    {
        "metadata": named(
            "kubernetes.NamespaceMetadata",
            {
                **dict.fromkeys(("name", "generateName", "namespace", "UID", "resourceVersion"), STRING),
                "labels": _LABELS, "annotations": _LABELS, "finalizers": _STRINGS, "creationTimestamp": TIMESTAMP,
                "deletionTimestamp": TIMESTAMP, "deletionGracePeriodSeconds": INT, "generation": INT,
            },
        ),
        "spec": named("kubernetes.NamespaceSpec", {"finalizers": _STRINGS}),
        "status": named(
            "kubernetes.NamespaceStatus",
            {
                "phase": STRING,
                "conditions": List(
                    named(
                        "kubernetes.NamespaceCondition",
                        {**dict.fromkeys(("status", "type", "message", "reason"), STRING),
                         "lastTransitionTime": TIMESTAMP},
                    )
                ),
            },
        ),
    },
)  # fmt: skip
