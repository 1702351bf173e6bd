"""The OpenAPI document in protobuf: the one form that `kubectl apply` of version 1.32 and others ask `/openapi/v2` for.

A message is an object of the document; where the format has a map, or one of several things, the messages have a list
of names and values, or a message around each thing. What begins with `x-`, and any default or enum, is YAML text, as
which JSON passes. Only what our document has is here. Source: gnostic's OpenAPIv2.proto, which kube-openapi serves.
"""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.apiserver.protobuf.encoding import Encoder, Shape
from orchestrator.apiserver.protobuf.table import Fields

_PARAMETER = {"1": ("required", "b"), "2": ("in", "s"), "3": ("description", "s"), "4": ("name", "s")}
MESSAGES: dict[str, Fields] = {
    "Document": {
        "1": ("swagger", "s"), "2": ("info", "Info"), "8": ("paths", "Paths"), "9": ("definitions", "Definitions"),
        "16": ("x-", "*NamedAny"),
    },
    "Info": {"1": ("title", "s"), "2": ("version", "s"), "3": ("description", "s")},
    "Any": {"2": ("yaml", "s")},
    "NamedAny": {"1": ("name", "s"), "2": ("value", "Any")},
    "Paths": {"1": ("x-", "*NamedAny"), "2": ("path", "*NamedPathItem")},
    "NamedPathItem": {"1": ("name", "s"), "2": ("value", "PathItem")},
    "PathItem": {
        "2": ("get", "Operation"), "3": ("put", "Operation"), "4": ("post", "Operation"), "5": ("delete", "Operation"),
        "6": ("options", "Operation"), "7": ("head", "Operation"), "8": ("patch", "Operation"),
        "9": ("parameters", "*ParametersItem"), "10": ("x-", "*NamedAny"),
    },
    "Operation": {
        "1": ("tags", "*s"), "2": ("summary", "s"), "3": ("description", "s"), "5": ("operationId", "s"),
        "6": ("produces", "*s"), "7": ("consumes", "*s"), "8": ("parameters", "*ParametersItem"),
        "9": ("responses", "Responses"), "10": ("schemes", "*s"), "11": ("deprecated", "b"), "13": ("x-", "*NamedAny"),
    },
    "ParametersItem": {"1": ("parameter", "Parameter")},
    "Parameter": {"1": ("body", "BodyParameter"), "2": ("other", "NonBodyParameter")},
    "BodyParameter": {
        "1": ("description", "s"), "2": ("name", "s"), "3": ("in", "s"), "4": ("required", "b"),
        "5": ("schema", "Schema"), "6": ("x-", "*NamedAny"),
    },
    "NonBodyParameter": {"3": ("query", "QueryParameter"), "4": ("path", "PathParameter")},
    "QueryParameter": {
        **_PARAMETER, "6": ("type", "s"), "7": ("format", "s"), "20": ("uniqueItems", "b"), "23": ("x-", "*NamedAny"),
    },
    "PathParameter": {
        **_PARAMETER, "5": ("type", "s"), "6": ("format", "s"), "19": ("uniqueItems", "b"), "22": ("x-", "*NamedAny"),
    },
    "Responses": {"1": ("code", "*NamedResponse"), "2": ("x-", "*NamedAny")},
    "NamedResponse": {"1": ("name", "s"), "2": ("value", "ResponseValue")},
    "ResponseValue": {"1": ("response", "Response")},
    "Response": {"1": ("description", "s"), "2": ("schema", "SchemaItem"), "5": ("x-", "*NamedAny")},
    "SchemaItem": {"1": ("schema", "Schema")},
    "Definitions": {"1": ("named", "*NamedSchema")},
    "Properties": {"1": ("named", "*NamedSchema")},
    "NamedSchema": {"1": ("name", "s"), "2": ("value", "Schema")},
    "Schema": {
        "1": ("$ref", "s"), "2": ("format", "s"), "3": ("title", "s"), "4": ("description", "s"),
        "5": ("default", "Any"), "6": ("multipleOf", "d"), "7": ("maximum", "d"), "8": ("exclusiveMaximum", "b"),
        "9": ("minimum", "d"), "10": ("exclusiveMinimum", "b"), "11": ("maxLength", "i"), "12": ("minLength", "i"),
        "13": ("pattern", "s"), "14": ("maxItems", "i"), "15": ("minItems", "i"), "16": ("uniqueItems", "b"),
        "17": ("maxProperties", "i"), "18": ("minProperties", "i"), "19": ("required", "*s"), "20": ("enum", "*Any"),
        "21": ("additionalProperties", "AdditionalProperties"), "22": ("type", "Types"), "23": ("items", "Items"),
        "24": ("allOf", "*Schema"), "25": ("properties", "Properties"), "26": ("discriminator", "s"),
        "27": ("readOnly", "b"), "30": ("example", "Any"), "31": ("x-", "*NamedAny"),
    },
    "AdditionalProperties": {"1": ("schema", "Schema"), "2": ("boolean", "b")},
    "Types": {"1": ("value", "*s")},
    "Items": {"1": ("schema", "*Schema")},
}  # fmt: skip


def _named(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "value": inner} for name, inner in value.items()]


def _extended(value: dict[str, Any]) -> dict[str, Any]:
    extensions = {name: inner for name, inner in value.items() if name.startswith("x-")}
    return {**value, "x-": _named(extensions)} if extensions else value


def _paths(value: dict[str, Any]) -> dict[str, Any]:
    return _extended(value) | {"path": _named({name: item for name, item in value.items() if name.startswith("/")})}


def _responses(value: dict[str, Any]) -> dict[str, Any]:
    return _extended(value) | {"code": _named({name: item for name, item in value.items() if name[0] != "x"})}


_SHAPES: dict[str, Shape] = {
    "Any": lambda value: {"yaml": orjson.dumps(value).decode() + "\n"},
    "Paths": _paths,
    "Responses": _responses,
    "ParametersItem": lambda value: {"parameter": value},
    "Parameter": lambda value: {"body" if value["in"] == "body" else "other": value},
    "NonBodyParameter": lambda value: {value["in"]: value},
    "ResponseValue": lambda value: {"response": value},
    "SchemaItem": lambda value: {"schema": value},
    "Definitions": lambda value: {"named": _named(value)},
    "Properties": lambda value: {"named": _named(value)},
    "AdditionalProperties": lambda value: {"boolean" if isinstance(value, bool) else "schema": value},
    "Types": lambda value: {"value": value if isinstance(value, list) else [value]},
    "Items": lambda value: {"schema": value if isinstance(value, list) else [value]},
}


def _shape(name: str) -> Shape | None:
    if any(field == "x-" for field, _ in MESSAGES[name].values()) and name not in _SHAPES:
        return _extended
    return _SHAPES.get(name)


document = Encoder(lambda: MESSAGES, _shape).message("Document")
