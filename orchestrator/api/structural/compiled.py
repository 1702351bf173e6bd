"""A structural schema as a tree, made once for each version of a CustomResourceDefinition.

A node keeps the JSON it was made of (`raw`) for the value rules. `type_of` makes of it the Type that server-side apply
merges by: objects with properties are structs, `x-kubernetes-list-type` and `-map-type` say how lists and maps merge,
and what the schema leaves open is merged as it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from msgspec import Struct, field

from orchestrator.api import schema
from orchestrator.api.schema import Field, Type

Json = Mapping[str, Any]
OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
META_FIELDS = ("apiVersion", "kind", "metadata")
_SCALARS = {"string": schema.STRING, "integer": schema.INTEGER, "number": schema.NUMBER, "boolean": schema.BOOL}


class Structural(Struct, eq=False, dict=True):
    """One node. `additional` is the schema of a map's values; None where it is not a map, or its values are open."""

    raw: Json
    properties: dict[str, Structural] = field(default_factory=dict)
    items: Structural | None = None
    additional: Structural | None = None
    has_additional: bool = False
    is_resource: bool = False  # has apiVersion, kind and metadata: the root, or an embedded resource

    @property
    def type(self) -> str:
        found: str = self.raw.get("type") or ""
        return found

    @property
    def preserves(self) -> bool:
        return bool(self.raw.get("x-kubernetes-preserve-unknown-fields"))

    @property
    def is_nullable(self) -> bool:
        return bool(self.raw.get("nullable"))

    @property
    def is_int_or_string(self) -> bool:
        return bool(self.raw.get("x-kubernetes-int-or-string"))

    @property
    def list_type(self) -> str:
        return self.raw.get("x-kubernetes-list-type") or ""

    @cached_property
    def list_keys(self) -> tuple[str, ...]:
        return tuple(self.raw.get("x-kubernetes-list-map-keys") or ())

    @cached_property
    def has_defaults(self) -> bool:
        """Whether anything at or below this node has a default, or a null that must go: else nothing is to be done."""
        below = [*self.properties.values(), *(node for node in (self.items, self.additional) if node)]
        return "default" in self.raw or any(node.has_defaults for node in below)


def compiled(raw: Json | None, *, is_root: bool = False) -> Structural:
    """The tree of an `openAPIV3Schema`; anything that is no schema counts as open."""
    raw = raw or {}
    node = Structural(raw)
    node.is_resource = is_root or bool(raw.get("x-kubernetes-embedded-resource"))
    for name, inner in (raw.get("properties") or {}).items():
        node.properties[name] = compiled(inner)
    if isinstance(items := raw.get("items"), dict):
        node.items = compiled(items)
    additional = raw.get("additionalProperties")
    node.has_additional = additional not in (None, False)
    if isinstance(additional, dict):
        node.additional = compiled(additional)
    return node


# -- for server-side apply ---------------------------------------------------------------------------------------------


def _granular() -> Type:
    """What no schema describes: maps merge by key, lists and scalars are one value."""
    made = Type(schema.ANY, "interface {}")
    made.map_type = "granular"
    return made


OPEN = _granular()


def type_of(node: Structural, name: str = "") -> Type:
    """The Type of a node; `name` is shown in messages."""
    if node.is_int_or_string:
        return Type(schema.INT_OR_STRING, "int32")
    match node.type:
        case "object" if node.properties or node.is_resource:
            return _struct(node, name)
        case "object":
            if node.preserves and not node.has_additional:
                return _with_map_type(Type(schema.ANY, "interface {}"), node)
            item = type_of(node.additional) if node.additional else OPEN
            return _with_map_type(Type(schema.MAP, f"map[string]{item.name}", item=item), node)
        case "array":
            item = type_of(node.items) if node.items else OPEN
            made = Type(schema.LIST, f"[]{item.name}", item=item)
            made.list_type, made.list_keys = node.list_type, node.list_keys
            return made
        case "string" | "integer" | "number" | "boolean" as kind:
            return Type(_SCALARS[kind], {"integer": "int64", "number": "float64", "boolean": "bool"}.get(kind, kind))
    return OPEN


def _with_map_type(made: Type, node: Structural) -> Type:
    made.map_type = node.raw.get("x-kubernetes-map-type") or "granular"
    return made


def _struct(node: Structural, name: str) -> Type:
    fields: dict[str, Type] = {key: type_of(inner) for key, inner in node.properties.items()}
    if node.is_resource:
        fields["apiVersion"] = fields["kind"] = Type(schema.STRING, "string")
        fields["metadata"] = schema.named_type(OBJECT_META)
    made = Type(schema.STRUCT, name or "map[string]interface {}")
    made.map_type = node.raw.get("x-kubernetes-map-type") or ""
    made.set_fields({key: Field(key, kind, key, False, (), "") for key, kind in fields.items()})
    made.rest = OPEN if node.preserves else type_of(node.additional) if node.additional else None
    return made
