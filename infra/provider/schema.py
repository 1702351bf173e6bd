"""The provider's schema, from the shapes that its resources check by: `pulumi import` writes a program with it.

Token of a part: the resource's name and the part's, `libvirt:index/DomainDisk:DomainDisk`.
Source: https://www.pulumi.com/docs/iac/using-pulumi/pulumi-packages/schema/
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from typing import Any

import msgspec

from infra.provider.properties import Values
from infra.provider.resource import Resource

PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string"}


def schema(resources: Iterable[Resource], version: str) -> Values:
    parts: Values = {}
    found: Values = {}
    for resource in resources:
        owner = resource.token.rpartition(":")[2]
        properties = _properties(resource.inputs, owner, parts)
        found[resource.token] = {
            "properties": properties,
            "inputProperties": {
                name: {**each, "secret": True} if name in resource.secret else each for name, each in properties.items()
            },
            "requiredInputs": _required(resource.inputs),
        }
    return {
        "name": "libvirt",
        "version": version,
        "meta": {"moduleFormat": "(.*)(?:/[^/]*)"},  # of `index/domain` the module is `index`
        "resources": found,
        "types": parts,
        "language": {"python": {}},
    }


def _properties(struct: type[Any], owner: str, parts: Values) -> Values:
    hints = typing.get_type_hints(struct)
    return {each.encode_name: _type(hints[each.name], owner, parts) for each in msgspec.structs.fields(struct)}


def _required(struct: type[Any]) -> list[str]:
    return [each.encode_name for each in msgspec.structs.fields(struct) if each.required]


def _type(hint: Any, owner: str, parts: Values) -> Values:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _type(next(each for each in arguments if each is not types.NoneType), owner, parts)
    if origin is typing.Annotated:
        return _type(arguments[0], owner, parts)
    if origin is typing.Literal:
        return {"type": "string"}
    if origin is tuple:
        return {"type": "array", "items": _type(arguments[0], owner, parts)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(arguments[1], owner, parts)}
    if hint in PLAIN:
        return {"type": PLAIN[hint]}
    name = hint.__name__ if hint.__name__.startswith(owner) else f"{owner}{hint.__name__}"
    token = f"libvirt:index/{name}:{name}"
    if token not in parts:
        parts[token] = {}
        parts[token] = {"type": "object", "properties": _properties(hint, owner, parts), "required": _required(hint)}
    return {"$ref": f"#/types/{token}"}
