"""Schemas: the type of every kind, compiled from the published OpenAPI definitions.

A `Type` is a struct (fields), a list or map (item), or a scalar. The definitions lie in one JSON file of 1.6 MB; only
the place of each definition is kept (770 spans), and a definition is parsed when a kind first needs it, so a server
pays for the kinds it sees (a Pod: 3 ms and 1 MiB, once; all kinds: 10 ms and 3 MiB).

The Go names that kube-apiserver's messages show and the schemas lack are in `go_types.json`: per definition `go`
(field → Go type), `embedded` (field → the Go struct inlined around it), `zero` (fields whose "", 0 or false is not
written back), `always` (structs and scalars that are written even when empty), `omitted` (lists that must be there and
yet are left out when empty), `nulls` (lists that need not be there and are written even so).
Source: OpenAPI of Kubernetes v1.36; API conventions, "Merge strategies" (list and map types).
"""

from __future__ import annotations

import importlib.util
import mmap
import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import orjson

from orchestrator.api.resources import Resource

VERSION = "v1.36.0"
STRUCT, LIST, MAP, STRING, BOOL, INTEGER, NUMBER, ANY = (
    "struct",
    "list",
    "map",
    "string",
    "bool",
    "int",
    "number",
    "any",
)
QUANTITY, INT_OR_STRING, TIME, MICRO_TIME, BYTES = "quantity", "int-or-string", "time", "micro-time", "bytes"

RAW_EXTENSION = "runtime.RawExtension"  # an ANY that Go knows as a struct without fields
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": QUANTITY,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": INT_OR_STRING,
    "io.k8s.apimachinery.pkg.runtime.RawExtension": ANY,
    _META + "Time": TIME,
    _META + "MicroTime": MICRO_TIME,
    _META + "FieldsV1": ANY,
    _META + "Patch": ANY,
}


class Type:
    """One type. `name` is its Go name as messages show it. `fields` of a struct are compiled when first read."""

    __slots__ = (
        "_definition",
        "_fields",
        "always",
        "item",
        "kind",
        "list_keys",
        "list_type",
        "map_type",
        "name",
        "nested",
        "plain",
        "rest",
        "zero",
    )  # fmt: skip

    def __init__(
        self, kind: str, name: str, *, item: Type | None = None, definition: Mapping[str, Any] | None = None
    ) -> None:
        self.kind = kind
        self.name = name
        self.item = item
        self.list_type = ""  # atomic, set or map; "" is atomic
        self.list_keys: tuple[str, ...] = ()
        self.map_type = ""  # atomic or granular; "" is granular
        self.zero: frozenset[str] = frozenset()  # fields not written back when "", 0 or false
        self.always: tuple[str, ...] = ()  # fields written even when empty: {}, "", 0, false
        self.plain = {STRING: str, BOOL: bool}.get(kind)  # the Python class that needs no further look
        self.nested: Type | None = None  # of an ANY: what its objects, and those in its list, are
        self.rest: Type | None = None  # a struct's other fields, where it allows any (custom resources)
        self._definition = definition
        self._fields: dict[str, Field] | None = None

    @property
    def fields(self) -> dict[str, Field]:
        if self._fields is None:
            self._fields = _compile_fields(self, self._definition or {})
            self._definition = None
        return self._fields

    def set_fields(self, fields: dict[str, Field]) -> None:
        """For a type that is not published: a custom resource's."""
        self._fields = fields

    def __repr__(self) -> str:
        return f"<Type {self.name}>"


class Field:
    """A struct's field: its type, how strategic merge patch treats it, and its part of a Go error's path."""

    __slots__ = ("go_path", "is_null", "merge_key", "name", "required", "strategies", "type")

    def __init__(
        self, name: str, kind: Type, go_path: str, required: bool, strategies: tuple[str, ...], merge_key: str
    ) -> None:
        self.name = name
        self.type = kind
        self.go_path = go_path
        self.required = required  # kept even when empty
        self.is_null = required  # a list, map or time that is written as null when it was never set
        self.strategies = strategies  # of merge, replace, retainKeys
        self.merge_key = merge_key


# -- where definitions come from ---------------------------------------------------------------------------------------


class _Definitions:
    """The definitions file, mapped into memory, with the span of each definition."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("kubernetes_validate")
        if spec is None or spec.origin is None:
            raise RuntimeError("the package kubernetes-validate, which carries the published schemas, is not installed")
        path = Path(spec.origin).parent / "kubernetes-json-schema" / f"{VERSION}-local" / "_definitions.json"
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        starts = [(match[1].decode(), match.end() - 1) for match in re.finditer(rb'\n    "([^"]+)": \{', self._map)]
        ends = [start for _, start in starts[1:]] + [len(self._map)]
        self._spans = {name: (start, end) for (name, start), end in zip(starts, ends, strict=True)}
        self.go: dict[str, dict[str, Any]] = orjson.loads((Path(__file__).parent / "go_types.json").read_bytes())

    def __contains__(self, name: str) -> bool:
        return name in self._spans

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def read(self, name: str) -> dict[str, Any]:
        """The JSON schema of one definition, parsed afresh."""
        start, end = self._spans[name]
        text = self._map[start:end]
        return orjson.loads(text[: text.rindex(b"\n    }") + 6])


@lru_cache(maxsize=1)
def definitions() -> _Definitions:
    return _Definitions()


# Groups whose definitions are not found under `io.k8s.api.<first label>`.
_PACKAGES = {
    "": "io.k8s.api.core",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "apiregistration.k8s.io": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
}


def definition_name(group: str, version: str, kind: str) -> str:
    """`io.k8s.api.apps.v1.Deployment`, as OpenAPI names it; it need not exist."""
    package = _PACKAGES.get(group) or f"io.k8s.api.{group.split('.')[0]}"
    return f"{package}.{version}.{kind}"


def type_of(resource: Resource) -> Type | None:
    """The type of a resource's kind: the published one, or that of its definition; None where there is none."""
    if resource.custom is not None:
        return resource.custom.type
    return type_of_kind(resource.group, resource.version, resource.kind)


def type_of_kind(group: str, version: str, kind: str) -> Type | None:
    name = definition_name(group, version, kind)
    return named_type(name) if name in definitions() else None


_SCHEMA = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"


@cache
def named_type(name: str) -> Type:
    """The type of a definition by its OpenAPI name; one object per name, so types may refer to themselves."""
    if name in _SPECIAL:
        return Type(
            _SPECIAL[name],
            RAW_EXTENSION
            if name.endswith(".RawExtension")
            else {TIME: "string", MICRO_TIME: "string", INT_OR_STRING: "int32"}.get(_SPECIAL[name], ""),
        )
    definition = definitions().read(name)
    go_name = ".".join(name.rsplit(".", 2)[1:])
    if "properties" not in definition:
        # A struct without fields is `{}`; anything without a type is any JSON.
        made = Type(STRUCT if _json_type(definition) == "object" else ANY, go_name, definition={})
        made.nested = named_type(_SCHEMA) if name.startswith(f"{_SCHEMA}Or") else None
        return made
    made = Type(STRUCT, go_name, definition={**definition, "definition": name})
    made.map_type = definition.get("x-kubernetes-map-type", "")
    facts = definitions().go.get(name, {})
    made.zero, made.always = frozenset(facts.get("zero", ())), tuple(facts.get("always", ()))
    return made


def _compile_fields(owner: Type, definition: Mapping[str, Any]) -> dict[str, Field]:
    facts = definitions().go.get(definition.get("definition", ""), {})
    go, embedded = facts.get("go", {}), facts.get("embedded", {})
    required = definition.get("required", ())
    fields = {}
    for name, schema in definition.get("properties", {}).items():
        strategies = tuple(filter(None, schema.get("x-kubernetes-patch-strategy", "").split(",")))
        go_path = f"{embedded[name]}.{name}" if name in embedded else name
        merge_key = schema.get("x-kubernetes-patch-merge-key", "")
        written = name in required and name not in facts.get("omitted", ())
        fields[name] = Field(name, _compile(schema, go.get(name, "")), go_path, written, strategies, merge_key)
        fields[name].is_null = written or name in facts.get("nulls", ())
    return fields


def _json_type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "")
    return kind[0] if isinstance(kind, list) else kind


def _compile(schema: Mapping[str, Any], go_name: str = "") -> Type:
    """The type of a property. Types that stand in a field carry the field's own list and map kinds."""
    if reference := schema.get("$ref"):
        referred = named_type(reference.rpartition("/")[2])
        if "x-kubernetes-map-type" not in schema or schema["x-kubernetes-map-type"] == referred.map_type:
            return referred
        made = Type(referred.kind, referred.name, definition=definitions().read(reference.rpartition("/")[2]))
        made.zero, made.always = referred.zero, referred.always
        made.map_type = schema["x-kubernetes-map-type"]
        return made
    match _json_type(schema):
        case "array":
            item = _compile(schema["items"], go_name.removeprefix("[]") if go_name.startswith("[]") else "")
            made = Type(LIST, go_name or f"[]{item.name}", item=item)
            made.list_type = schema.get("x-kubernetes-list-type", "")
            made.list_keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
            return made
        case "object":
            item_name = go_name.partition("]")[2] if go_name.startswith("map[") else ""
            item = _compile(schema["additionalProperties"], item_name) if "additionalProperties" in schema else ANY_TYPE
            made = Type(MAP, go_name or f"map[string]{item.name}", item=item)
            made.map_type = schema.get("x-kubernetes-map-type", "")
            return made
        case "string":
            return _scalar(BYTES if schema.get("format") == "byte" else STRING, go_name)
        case "integer":
            return _scalar(INTEGER, schema.get("format", "int64"))
        case "number":
            return _scalar(NUMBER, "float64")
        case "boolean":
            return _scalar(BOOL, "bool")
    return ANY_TYPE


@cache
def _scalar(kind: str, name: str) -> Type:
    return Type(kind, name or {STRING: "string", BYTES: "[]uint8"}[kind])


ANY_TYPE = Type(ANY, "interface {}")
