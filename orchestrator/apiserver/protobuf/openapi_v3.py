"""The OpenAPI document of version 3 in protobuf, as client-go asks for it.

As in version 2, a map is a list of names and values, and what may be one of several things is a message around each;
here nearly everything may be a reference instead. A default that is a list or an object has no message: it is left out,
as upstream's is. Source: gnostic's OpenAPIv3.proto, which kube-openapi serves.
"""

from __future__ import annotations

from typing import Any

from orchestrator.apiserver.protobuf.encoding import Encoder, Shape
from orchestrator.apiserver.protobuf.openapi_v2 import extended, listed, named, numbered, or_reference, yaml_text
from orchestrator.apiserver.protobuf.table import Fields

_END = ("x-", "*NamedAny")
_LISTS = {
    "Schemas": "SchemaOrReference", "SharedResponses": "ResponseOrReference", "Parameters": "ParameterOrReference",
    "Examples": "ExampleOrReference", "RequestBodies": "RequestBodyOrReference", "Headers": "HeaderOrReference",
    "SecuritySchemes": "SecuritySchemeOrReference", "Links": "LinkOrReference", "Callbacks": "CallbackOrReference",
    "MediaTypes": "MediaType", "Encodings": "Encoding", "Strings": "s", "ServerVariables": "ServerVariable",
    "SecurityRequirement": "StringArray",
}  # fmt: skip
_REFERABLE = {
    "SchemaOrReference": "Schema", "ResponseOrReference": "Response", "ParameterOrReference": "Parameter",
    "ExampleOrReference": "Example", "RequestBodyOrReference": "RequestBody", "HeaderOrReference": "Header",
    "SecuritySchemeOrReference": "SecurityScheme", "LinkOrReference": "Link", "CallbackOrReference": "Callback",
}  # fmt: skip
_SHOWN = (
    ("style", "s"), ("explode", "b"), ("allowReserved", "b"), ("schema", "SchemaOrReference"), ("example", "Any"),
    ("examples", "Examples"), ("content", "MediaTypes"), _END,
)  # fmt: skip

MESSAGES: dict[str, Fields] = {
    "Document": numbered(
        ("openapi", "s"), ("info", "Info"), ("servers", "*Server"), ("paths", "Paths"), ("components", "Components"),
        ("security", "*SecurityRequirement"), ("tags", "*Tag"), ("externalDocs", "ExternalDocs"), _END,
    ),
    "Info": numbered(
        ("title", "s"), ("description", "s"), ("termsOfService", "s"), ("contact", "Contact"), ("license", "License"),
        ("version", "s"), _END, ("summary", "s"),
    ),
    "Contact": numbered(("name", "s"), ("url", "s"), ("email", "s"), _END),
    "License": numbered(("name", "s"), ("url", "s"), _END),
    "ExternalDocs": numbered(("description", "s"), ("url", "s"), _END),
    "Tag": numbered(("name", "s"), ("description", "s"), ("externalDocs", "ExternalDocs"), _END),
    "Server": numbered(("url", "s"), ("description", "s"), ("variables", "ServerVariables"), _END),
    "ServerVariable": numbered(("enum", "*s"), ("default", "s"), ("description", "s"), _END),
    "Any": {"2": ("yaml", "s")},
    "NamedAny": numbered(("name", "s"), ("value", "Any")),
    "Components": numbered(
        ("schemas", "Schemas"), ("responses", "SharedResponses"), ("parameters", "Parameters"),
        ("examples", "Examples"), ("requestBodies", "RequestBodies"), ("headers", "Headers"),
        ("securitySchemes", "SecuritySchemes"), ("links", "Links"), ("callbacks", "Callbacks"), _END,
    ),
    "Paths": numbered(("path", "*NamedPathItem"), _END),
    "NamedPathItem": numbered(("name", "s"), ("value", "PathItem")),
    "PathItem": numbered(
        ("$ref", "s"), ("summary", "s"), ("description", "s"), ("get", "Operation"), ("put", "Operation"),
        ("post", "Operation"), ("delete", "Operation"), ("options", "Operation"), ("head", "Operation"),
        ("patch", "Operation"), ("trace", "Operation"), ("servers", "*Server"), ("parameters", "*ParameterOrReference"),
        _END,
    ),
    "Operation": numbered(
        ("tags", "*s"), ("summary", "s"), ("description", "s"), ("externalDocs", "ExternalDocs"), ("operationId", "s"),
        ("parameters", "*ParameterOrReference"), ("requestBody", "RequestBodyOrReference"), ("responses", "Responses"),
        ("callbacks", "Callbacks"), ("deprecated", "b"), ("security", "*SecurityRequirement"), ("servers", "*Server"),
        _END,
    ),
    "Parameter": numbered(
        ("name", "s"), ("in", "s"), ("description", "s"), ("required", "b"), ("deprecated", "b"),
        ("allowEmptyValue", "b"), *_SHOWN,
    ),
    "Header": numbered(
        ("description", "s"), ("required", "b"), ("deprecated", "b"), ("allowEmptyValue", "b"), *_SHOWN,
    ),
    "RequestBody": numbered(("description", "s"), ("content", "MediaTypes"), ("required", "b"), _END),
    "MediaType": numbered(
        ("schema", "SchemaOrReference"), ("example", "Any"), ("examples", "Examples"), ("encoding", "Encodings"), _END,
    ),
    "Encoding": numbered(
        ("contentType", "s"), ("headers", "Headers"), ("style", "s"), ("explode", "b"), ("allowReserved", "b"), _END,
    ),
    "Example": numbered(("summary", "s"), ("description", "s"), ("value", "Any"), ("externalValue", "s"), _END),
    "Responses": numbered(("default", "ResponseOrReference"), ("code", "*NamedResponseOrReference"), _END),
    "Response": numbered(
        ("description", "s"), ("headers", "Headers"), ("content", "MediaTypes"), ("links", "Links"), _END,
    ),
    "Link": numbered(
        ("operationRef", "s"), ("operationId", "s"), ("parameters", "AnyOrExpression"),
        ("requestBody", "AnyOrExpression"), ("description", "s"), ("server", "Server"), _END,
    ),
    "AnyOrExpression": numbered(("any", "Any")),
    "Callback": numbered(("path", "*NamedPathItem"), _END),
    "SecurityScheme": numbered(
        ("type", "s"), ("description", "s"), ("name", "s"), ("in", "s"), ("scheme", "s"), ("bearerFormat", "s"),
        ("flows", "Flows"), ("openIdConnectUrl", "s"), _END,
    ),
    "Flows": numbered(
        ("implicit", "Flow"), ("password", "Flow"), ("clientCredentials", "Flow"), ("authorizationCode", "Flow"), _END,
    ),
    "Flow": numbered(
        ("authorizationUrl", "s"), ("tokenUrl", "s"), ("refreshUrl", "s"), ("scopes", "Strings"), _END,
    ),
    "StringArray": numbered(("value", "*s")),
    "Reference": numbered(("$ref", "s"), ("summary", "s"), ("description", "s")),
    "Schema": numbered(
        ("nullable", "b"), ("discriminator", "Discriminator"), ("readOnly", "b"), ("writeOnly", "b"), ("xml", "Xml"),
        ("externalDocs", "ExternalDocs"), ("example", "Any"), ("deprecated", "b"), ("title", "s"), ("multipleOf", "d"),
        ("maximum", "d"), ("exclusiveMaximum", "b"), ("minimum", "d"), ("exclusiveMinimum", "b"), ("maxLength", "i"),
        ("minLength", "i"), ("pattern", "s"), ("maxItems", "i"), ("minItems", "i"), ("uniqueItems", "b"),
        ("maxProperties", "i"), ("minProperties", "i"), ("required", "*s"), ("enum", "*Any"), ("type", "s"),
        ("allOf", "*SchemaOrReference"), ("oneOf", "*SchemaOrReference"), ("anyOf", "*SchemaOrReference"),
        ("not", "Schema"), ("items", "Items"), ("properties", "Schemas"),
        ("additionalProperties", "AdditionalProperties"), ("default", "Default"), ("description", "s"), ("format", "s"),
        _END,
    ),
    "Discriminator": numbered(("propertyName", "s"), ("mapping", "Strings"), _END),
    "Xml": numbered(
        ("name", "s"), ("namespace", "s"), ("prefix", "s"), ("attribute", "b"), ("wrapped", "b"), _END,
    ),
    "Items": numbered(("schema", "*SchemaOrReference")),
    "AdditionalProperties": numbered(("schema", "SchemaOrReference"), ("boolean", "b")),
    "Default": numbered(("number", "d"), ("boolean", "b"), ("text", "s")),
    **{name: numbered(("named", f"*Named{one}")) for name, one in _LISTS.items()},
    **{f"Named{one}": numbered(("name", "s"), ("value", one)) for one in _LISTS.values()},
    **{name: numbered((one, one), ("reference", "Reference")) for name, one in _REFERABLE.items()},
}  # fmt: skip


def _paths(value: dict[str, Any]) -> dict[str, Any]:
    return extended(value) | {"path": named({key: one for key, one in value.items() if key[:2] != "x-"})}


def _responses(value: dict[str, Any]) -> dict[str, Any]:
    codes = {key: one for key, one in value.items() if key != "default" and key[:2] != "x-"}
    return extended(value) | {"code": named(codes)}


def _default(value: Any) -> dict[str, Any]:
    kinds = {bool: "boolean", int: "number", float: "number", str: "text"}
    return {kinds[type(value)]: value} if type(value) in kinds else {}


_SHAPES: dict[str, Shape] = {
    "Any": yaml_text,
    "Paths": _paths,
    "Callback": _paths,
    "Responses": _responses,
    "AnyOrExpression": lambda value: {"any": value},
    "StringArray": lambda value: {"value": value},
    "Items": lambda value: {"schema": value if isinstance(value, list) else [value]},
    "AdditionalProperties": lambda value: {"boolean" if isinstance(value, bool) else "schema": value},
    "Default": _default,
    **dict.fromkeys(_LISTS, listed),
    **{name: or_reference(one) for name, one in _REFERABLE.items()},
}


def _shape(name: str) -> Shape | None:
    if _END in MESSAGES[name].values() and name not in _SHAPES:
        return extended
    return _SHAPES.get(name)


document = Encoder(lambda: MESSAGES, _shape).message("Document")
