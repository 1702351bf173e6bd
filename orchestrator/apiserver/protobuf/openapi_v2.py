"""The OpenAPI document in protobuf: the one form that `kubectl apply` of version 1.32 and others ask `/openapi/v2` for.

A message is an object of the document; where the format has a map, or one of several things, the messages have a list
of names and values, or a message around each thing. What begins with `x-`, and any default or enum, is YAML text, as
which JSON passes. Source: gnostic's OpenAPIv2.proto, which kube-openapi serves.
"""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.apiserver.protobuf.encoding import Encoder, Shape
from orchestrator.apiserver.protobuf.table import Fields

_VALIDATION = (
    ("maximum", "d"), ("exclusiveMaximum", "b"), ("minimum", "d"), ("exclusiveMinimum", "b"), ("maxLength", "i"),
    ("minLength", "i"), ("pattern", "s"), ("maxItems", "i"), ("minItems", "i"), ("uniqueItems", "b"),
)  # fmt: skip
_SIMPLE = (("items", "PrimitivesItems"), ("collectionFormat", "s"), ("default", "Any"), *_VALIDATION)
_ENDING = (("enum", "*Any"), ("multipleOf", "d"), ("x-", "*NamedAny"))
_EMPTY = (("allowEmptyValue", "b"),)


def numbered(*fields: tuple[str, str]) -> Fields:
    return {str(number): field for number, field in enumerate(fields, 1)}


def _parameter(*before_type: tuple[str, str]) -> Fields:
    start = (("required", "b"), ("in", "s"), ("description", "s"), ("name", "s"), *before_type)
    return numbered(*start, ("type", "s"), ("format", "s"), *_SIMPLE, *_ENDING)


def _flow(*urls: str) -> Fields:
    start = (("type", "s"), ("flow", "s"), ("scopes", "Scopes"))
    return numbered(*start, *((url, "s") for url in urls), ("description", "s"), ("x-", "*NamedAny"))


MESSAGES: dict[str, Fields] = {
    "Document": numbered(
        ("swagger", "s"), ("info", "Info"), ("host", "s"), ("basePath", "s"), ("schemes", "*s"), ("consumes", "*s"),
        ("produces", "*s"), ("paths", "Paths"), ("definitions", "Definitions"), ("parameters", "Parameters"),
        ("responses", "ResponseDefinitions"), ("security", "*SecurityRequirement"),
        ("securityDefinitions", "SecurityDefinitions"), ("tags", "*Tag"), ("externalDocs", "ExternalDocs"),
        ("x-", "*NamedAny"),
    ),
    "Info": numbered(
        ("title", "s"), ("version", "s"), ("description", "s"), ("termsOfService", "s"), ("contact", "Contact"),
        ("license", "License"), ("x-", "*NamedAny"),
    ),
    "Contact": numbered(("name", "s"), ("url", "s"), ("email", "s"), ("x-", "*NamedAny")),
    "License": numbered(("name", "s"), ("url", "s"), ("x-", "*NamedAny")),
    "ExternalDocs": numbered(("description", "s"), ("url", "s"), ("x-", "*NamedAny")),
    "Tag": numbered(("name", "s"), ("description", "s"), ("externalDocs", "ExternalDocs"), ("x-", "*NamedAny")),
    "Any": {"2": ("yaml", "s")},
    "NamedAny": numbered(("name", "s"), ("value", "Any")),
    "Paths": numbered(("x-", "*NamedAny"), ("path", "*NamedPathItem")),
    "NamedPathItem": numbered(("name", "s"), ("value", "PathItem")),
    "PathItem": numbered(
        ("$ref", "s"), ("get", "Operation"), ("put", "Operation"), ("post", "Operation"), ("delete", "Operation"),
        ("options", "Operation"), ("head", "Operation"), ("patch", "Operation"), ("parameters", "*ParametersItem"),
        ("x-", "*NamedAny"),
    ),
    "Operation": numbered(
        ("tags", "*s"), ("summary", "s"), ("description", "s"), ("externalDocs", "ExternalDocs"), ("operationId", "s"),
        ("produces", "*s"), ("consumes", "*s"), ("parameters", "*ParametersItem"), ("responses", "Responses"),
        ("schemes", "*s"), ("deprecated", "b"), ("security", "*SecurityRequirement"), ("x-", "*NamedAny"),
    ),
    "ParametersItem": numbered(("parameter", "Parameter"), ("reference", "Reference")),
    "Parameter": numbered(("body", "BodyParameter"), ("other", "NonBodyParameter")),
    "Parameters": numbered(("named", "*NamedParameter")),
    "NamedParameter": numbered(("name", "s"), ("value", "Parameter")),
    "BodyParameter": numbered(
        ("description", "s"), ("name", "s"), ("in", "s"), ("required", "b"), ("schema", "Schema"), ("x-", "*NamedAny"),
    ),
    "NonBodyParameter": numbered(
        ("header", "PlainParameter"), ("formData", "FilledParameter"), ("query", "FilledParameter"),
        ("path", "PlainParameter"),
    ),
    "PlainParameter": _parameter(),
    "FilledParameter": _parameter(*_EMPTY),
    "PrimitivesItems": numbered(("type", "s"), ("format", "s"), *_SIMPLE, *_ENDING),
    "Header": numbered(
        ("type", "s"), ("format", "s"), *_SIMPLE, ("enum", "*Any"), ("multipleOf", "d"), ("description", "s"),
        ("x-", "*NamedAny"),
    ),
    "Headers": numbered(("named", "*NamedHeader")),
    "NamedHeader": numbered(("name", "s"), ("value", "Header")),
    "Reference": numbered(("$ref", "s"), ("description", "s")),
    "Responses": numbered(("code", "*NamedResponse"), ("x-", "*NamedAny")),
    "NamedResponse": numbered(("name", "s"), ("value", "ResponseValue")),
    "ResponseValue": numbered(("response", "Response"), ("reference", "Reference")),
    "ResponseDefinitions": numbered(("named", "*NamedPlainResponse")),
    "NamedPlainResponse": numbered(("name", "s"), ("value", "Response")),
    "Response": numbered(
        ("description", "s"), ("schema", "SchemaItem"), ("headers", "Headers"), ("examples", "Examples"),
        ("x-", "*NamedAny"),
    ),
    "Examples": numbered(("named", "*NamedAny")),
    "SchemaItem": numbered(("schema", "Schema"), ("file", "FileSchema")),
    "FileSchema": numbered(
        ("format", "s"), ("title", "s"), ("description", "s"), ("default", "Any"), ("required", "*s"), ("type", "s"),
        ("readOnly", "b"), ("externalDocs", "ExternalDocs"), ("example", "Any"), ("x-", "*NamedAny"),
    ),
    "Definitions": numbered(("named", "*NamedSchema")),
    "Properties": numbered(("named", "*NamedSchema")),
    "NamedSchema": numbered(("name", "s"), ("value", "Schema")),
    "Schema": numbered(
        ("$ref", "s"), ("format", "s"), ("title", "s"), ("description", "s"), ("default", "Any"), ("multipleOf", "d"),
        *_VALIDATION, ("maxProperties", "i"), ("minProperties", "i"), ("required", "*s"), ("enum", "*Any"),
        ("additionalProperties", "AdditionalProperties"), ("type", "Types"), ("items", "Items"), ("allOf", "*Schema"),
        ("properties", "Properties"), ("discriminator", "s"), ("readOnly", "b"), ("xml", "Xml"),
        ("externalDocs", "ExternalDocs"), ("example", "Any"), ("x-", "*NamedAny"),
    ),
    "AdditionalProperties": numbered(("schema", "Schema"), ("boolean", "b")),
    "Types": numbered(("value", "*s")),
    "Items": numbered(("schema", "*Schema")),
    "Xml": numbered(
        ("name", "s"), ("namespace", "s"), ("prefix", "s"), ("attribute", "b"), ("wrapped", "b"), ("x-", "*NamedAny"),
    ),
    "SecurityRequirement": numbered(("named", "*NamedStrings")),
    "NamedStrings": numbered(("name", "s"), ("value", "Strings")),
    "Strings": numbered(("value", "*s")),
    "SecurityDefinitions": numbered(("named", "*NamedSecurity")),
    "NamedSecurity": numbered(("name", "s"), ("value", "Security")),
    "Security": numbered(
        ("basic", "BasicSecurity"), ("apiKey", "ApiKeySecurity"), ("implicit", "FlowByPage"),
        ("password", "FlowByToken"), ("application", "FlowByToken"), ("accessCode", "FlowByBoth"),
    ),
    "BasicSecurity": numbered(("type", "s"), ("description", "s"), ("x-", "*NamedAny")),
    "ApiKeySecurity": numbered(("type", "s"), ("name", "s"), ("in", "s"), ("description", "s"), ("x-", "*NamedAny")),
    "FlowByPage": _flow("authorizationUrl"),
    "FlowByToken": _flow("tokenUrl"),
    "FlowByBoth": _flow("authorizationUrl", "tokenUrl"),
    "Scopes": numbered(("named", "*NamedString")),
    "NamedString": numbered(("name", "s"), ("value", "s")),
}  # fmt: skip


def named(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "value": inner} for name, inner in value.items()]


def extended(value: dict[str, Any]) -> dict[str, Any]:
    extensions = {name: inner for name, inner in value.items() if name.startswith("x-")}
    return {**value, "x-": named(extensions)} if extensions else value


def _paths(value: dict[str, Any]) -> dict[str, Any]:
    return extended(value) | {"path": named({name: item for name, item in value.items() if name.startswith("/")})}


def _responses(value: dict[str, Any]) -> dict[str, Any]:
    return extended(value) | {"code": named({name: item for name, item in value.items() if name[0] != "x"})}


def yaml_text(value: Any) -> dict[str, Any]:
    return {"yaml": orjson.dumps(value).decode() + "\n"}


def listed(value: dict[str, Any]) -> dict[str, Any]:
    return {"named": named(value)}


def or_reference(name: str) -> Shape:
    return lambda value: {"reference" if "$ref" in value else name: value}


_SHAPES: dict[str, Shape] = {
    "Any": yaml_text,
    "Paths": _paths,
    "Responses": _responses,
    "ParametersItem": or_reference("parameter"),
    "Parameter": lambda value: {"body" if value["in"] == "body" else "other": value},
    "NonBodyParameter": lambda value: {value["in"]: value},
    "ResponseValue": or_reference("response"),
    "SchemaItem": lambda value: {"file" if value.get("type") == "file" else "schema": value},
    **dict.fromkeys(
        ("Definitions", "Properties", "Parameters", "Headers", "ResponseDefinitions", "Examples", "Scopes"), listed
    ),
    **dict.fromkeys(("SecurityRequirement", "SecurityDefinitions"), listed),
    "Strings": lambda value: {"value": value},
    "Security": lambda value: {value.get("flow") or value["type"]: value},
    "AdditionalProperties": lambda value: {"boolean" if isinstance(value, bool) else "schema": value},
    "Types": lambda value: {"value": value if isinstance(value, list) else [value]},
    "Items": lambda value: {"schema": value if isinstance(value, list) else [value]},
}


def _shape(name: str) -> Shape | None:
    if any(field == "x-" for field, _ in MESSAGES[name].values()) and name not in _SHAPES:
        return extended
    return _SHAPES.get(name)


document = Encoder(lambda: MESSAGES, _shape).message("Document")
