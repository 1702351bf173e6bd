"""A document of version 2 as one of version 3, for servers that publish the older format alone. It says less: choices
and defaults are lost there already. Source: k8s.io/kube-openapi pkg/openapiconv.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_PLACES = {
    "#/definitions/": "#/components/schemas/",
    "#/parameters/": "#/components/parameters/",
    "#/responses/": "#/components/responses/",
}
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_OF_OPERATION = ("description", "externalDocs", "tags", "summary", "deprecated", "operationId")
_OF_SIMPLE = ("type", "format", "uniqueItems")  # of a parameter that has no schema there

Json = Mapping[str, Any]


def document_v3(document: Json) -> dict[str, Any]:
    produces = document.get("produces") or ()
    components: dict[str, Any] = {
        "schemas": {name: _schema(one) for name, one in (document.get("definitions") or {}).items()},
        "securitySchemes": {name: _scheme(one) for name, one in (document.get("securityDefinitions") or {}).items()},
        "responses": {name: _response(one, produces) for name, one in (document.get("responses") or {}).items()},
        # Deviation: upstream converts references to shared parameters, and leaves out what they refer to.
        "parameters": {name: _parameter(one) for name, one in (document.get("parameters") or {}).items()},
    }
    return {
        "openapi": "3.0.0",
        "info": document.get("info") or {},
        **({"externalDocs": document["externalDocs"]} if document.get("externalDocs") else {}),
        "paths": {path: _path_item(item) for path, item in (document.get("paths") or {}).items()},
        "components": {name: one for name, one in components.items() if one},
    }


def _extensions(value: Json) -> dict[str, Any]:
    return {key: inner for key, inner in value.items() if key.startswith("x-")}


def _place(reference: str) -> str:
    for old, new in _PLACES.items():
        if old in reference:
            return new + reference.partition(old)[2]
    return reference


def _schema(value: Any) -> Any:
    """References alone are wrapped where something stands beside them, which version 3 does not have."""
    if isinstance(value, list):
        return [_schema(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if key == "properties" and isinstance(inner, dict):
            found[key] = {name: _schema(one) for name, one in inner.items()}
        elif key in ("items", "additionalProperties", "additionalItems", "allOf"):
            found[key] = _schema(inner)
        else:
            found[key] = inner
    if not isinstance(value.get("$ref"), str):
        return found
    reference = {"$ref": _place(found.pop("$ref"))}
    return {**found, "allOf": [reference]} if found else reference


def _scheme(value: Json) -> dict[str, Any]:
    found = {key: value[key] for key in ("type", "description", "name", "in") if key in value} | _extensions(value)
    if value.get("flow"):
        names = {"authorizationUrl": "authorizationUrl", "tokenUrl": "tokenUrl", "scopes": "scopes"}
        found["flows"] = {value["flow"]: {new: value[old] for old, new in names.items() if old in value}}
    return found


def _path_item(item: Json) -> dict[str, Any]:
    found: dict[str, Any] = {method: _operation(item[method]) for method in _METHODS if item.get(method)}
    if item.get("parameters"):
        found["parameters"] = [_parameter(one) for one in item["parameters"]]
    return found | _extensions(item)


def _operation(operation: Json) -> dict[str, Any]:
    found = {key: operation[key] for key in _OF_OPERATION if key in operation} | _extensions(operation)
    parameters = []
    for parameter in operation.get("parameters") or ():
        if parameter.get("in") == "body" and "schema" in parameter:
            found["requestBody"] = {"content": _content(parameter["schema"], operation.get("consumes") or ())}
        else:
            parameters.append(_parameter(parameter))
    if parameters:
        found["parameters"] = parameters
    answers = operation.get("responses") or {}
    found["responses"] = {code: _response(one, operation.get("produces") or ()) for code, one in answers.items()}
    return found


def _content(schema: Json, media_types: Iterable[str]) -> dict[str, Any]:
    return {one: {"schema": _schema(schema)} for one in media_types}


def _response(response: Any, produces: Iterable[str]) -> Any:
    if not isinstance(response, Mapping):
        return response  # of an extension
    if "$ref" in response:
        return {"$ref": _place(response["$ref"])}
    found = {"description": response.get("description") or "", **_extensions(response)}
    if response.get("schema"):
        found["content"] = _content(response["schema"], produces)
    return found


def _parameter(parameter: Json) -> dict[str, Any]:
    if "$ref" in parameter:
        return {"$ref": _place(parameter["$ref"])}
    kept = ("name", "description", "in", "required", "allowEmptyValue")
    found = {key: parameter[key] for key in kept if key in parameter} | _extensions(parameter)
    if "schema" in parameter:
        return {**found, "schema": _schema(parameter["schema"])}
    return {**found, "schema": {key: parameter[key] for key in _OF_SIMPLE if key in parameter}}
