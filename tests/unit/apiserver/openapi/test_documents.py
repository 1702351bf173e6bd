"""The published documents: what kubectl validates manifests with before it sends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from orchestrator.api import custom
from orchestrator.api.clock import FixedClock
from orchestrator.api.resources import ROWS, Resource, ResourceTable
from orchestrator.api.wire import Request
from orchestrator.apiserver.encoding import JSON
from orchestrator.apiserver.openapi import documents as openapi
from orchestrator.apiserver.openapi import roots, serving
from orchestrator.apiserver.protobuf import openapi_v2


@pytest.mark.parametrize("document", [openapi.document_v2, openapi.document_v3])
def test_a_field_may_be_named_as_a_keyword(document: Callable[[list[Resource]], dict[str, Any]]) -> None:
    """JSONSchemaProps, of which a custom resource's schema is made, has fields called $ref, type and enum."""
    made = document(list(ROWS))
    definitions = made.get("definitions") or made["components"]["schemas"]
    fields = next(found for name, found in definitions.items() if name.endswith("v1.JSONSchemaProps"))["properties"]
    assert fields["$ref"]["type"] == "string"
    assert fields["type"]["type"] == "string"
    assert fields["enum"]["type"] == "array"


FOO = "com.example.v1.Foo"


def published(document: Callable[[list[Resource]], dict[str, Any]], schema: dict[str, Any]) -> dict[str, Any]:
    """The definition of a custom kind, without what every object has."""
    definition = {
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
        "status": {"acceptedNames": {"kind": "Foo", "plural": "foos", "listKind": "FooList"}},
    }
    made = document(custom.resources_of(definition))
    found: dict[str, Any] = (made.get("definitions") or made["components"]["schemas"])[FOO]
    assert found.pop("x-kubernetes-group-version-kind") == [{"group": "example.com", "version": "v1", "kind": "Foo"}]
    for name in ("apiVersion", "kind", "metadata") if "properties" in found else ():
        assert found["properties"].pop(name)["description"]
    return found


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "description": "for testing", "properties": properties}


@pytest.mark.parametrize("document", [openapi.document_v2, openapi.document_v3])
def test_a_definition_is_published_as_it_is(document: Callable[[list[Resource]], dict[str, Any]]) -> None:
    bars = {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "enum": ["one"]},  # a single value is no constant of the format here
                "oneOf": {"type": "string", "pattern": "in|out"},
            },
        },
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }
    schema = of(spec={"type": "object", "description": "Specification", "properties": {"bars": bars}})
    assert published(document, schema) == schema


CHOICE = {"anyOf": [{"minimum": 1}], "oneOf": [{"minimum": 2}], "allOf": [{"minimum": 3}], "not": {"minimum": 4}}
INT_OR_STRING = {"x-kubernetes-int-or-string": True}
EITHER = [{"type": "integer"}, {"type": "string"}]
KEEPS = {"x-kubernetes-preserve-unknown-fields": True}
TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "v2", "v3"),
    [
        pytest.param({"type": "object", **KEEPS}, {"type": "object"}, {"type": "object", **KEEPS, "properties": {}},
                     id="no-schema"),
        pytest.param({**of(a=TEXT), **KEEPS}, {"type": "object"}, {**of(a=TEXT), **KEEPS}, id="unknown-at-the-root"),
        pytest.param(of(a={"type": "object", "properties": {"b": TEXT}, **KEEPS}), of(a=KEEPS), None,
                     id="unknown-below"),
        pytest.param(of(a={"type": "integer", **CHOICE}), of(a={"type": "integer"}), None, id="choices"),
        pytest.param(of(a={"type": "string", "default": "x"}), of(a=TEXT), None, id="a-default"),
        pytest.param({**of(a={**TEXT, "nullable": True}, b=TEXT), "required": ["a", "b"]},
                     {**of(a={}, b=TEXT), "required": ["b"]}, None, id="null"),
        pytest.param({**of(a={**TEXT, "nullable": True}), "required": ["a"]}, of(a={}), None, id="null-alone"),
        pytest.param(of(a={"type": "array", "items": TEXT, **KEEPS}), of(a=KEEPS), None, id="a-list-without-items"),
        pytest.param(of(a=INT_OR_STRING), of(a=INT_OR_STRING), of(a={**INT_OR_STRING, "anyOf": EITHER}),
                     id="int-or-string"),
        pytest.param(of(a={**INT_OR_STRING, "anyOf": EITHER}), of(a=INT_OR_STRING), None, id="int-or-string-said"),
        pytest.param(of(a={**INT_OR_STRING, "anyOf": [{"minimum": 1}]}), of(a=INT_OR_STRING),
                     of(a={**INT_OR_STRING, "anyOf": [{"minimum": 1}], "allOf": [{"anyOf": EITHER}]}),
                     id="int-or-string-and-another"),
    ],
)  # fmt: skip
def test_the_older_format_can_say_less(schema: dict[str, Any], v2: dict[str, Any], v3: dict[str, Any] | None) -> None:
    assert published(openapi.document_v2, schema) == v2
    assert published(openapi.document_v3, schema) == (v3 or schema)


def test_an_embedded_object_has_the_fields_of_an_object() -> None:
    schema = of(a={"type": "object", "properties": {"spec": TEXT}, "x-kubernetes-embedded-resource": True})
    for document in (openapi.document_v2, openapi.document_v3):
        found = published(document, schema)["properties"]["a"]
        assert sorted(found["properties"]) == ["apiVersion", "kind", "metadata", "spec"]
        assert found["required"] == ["kind", "apiVersion"]
    schema["properties"]["a"] |= KEEPS
    assert published(openapi.document_v2, schema)["properties"]["a"] == {
        **KEEPS,
        "x-kubernetes-embedded-resource": True,
    }


def test_a_version_that_is_not_served_is_not_published() -> None:
    version = {"schema": {"openAPIV3Schema": of(a=TEXT)}}
    definition = {
        "spec": {
            "group": "example.com",
            "scope": "Cluster",
            "versions": [
                {"name": "v1", "served": True, "storage": False, **version},
                {"name": "v0", "served": False, "storage": True, **version},
            ],
        },
        "status": {"acceptedNames": {"kind": "Foo", "plural": "foos", "listKind": "FooList"}},
    }
    made = openapi.document_v2(custom.resources_of(definition))
    assert [name for name in made["definitions"] if name.startswith("com.example.")] == [FOO, f"{FOO}List"]
    assert not [path for path in made["paths"] if "/v0/" in path]


@pytest.mark.parametrize("document", [openapi.document_v2, openapi.document_v3])
def test_nothing_empty_is_said(document: Callable[[list[Resource]], dict[str, Any]]) -> None:
    """Go's types do not keep an empty list, so that what they write again would be another document."""

    def empty(value: Any, path: str) -> list[str]:
        if isinstance(value, dict):
            return [found for name, inner in value.items() for found in empty(inner, f"{path}/{name}")]
        if isinstance(value, list):
            return [found for inner in value for found in empty(inner, path)] if value else [path]
        return []

    found = empty(document(list(ROWS)), "")
    assert [path for path in found if path != "/security/BearerToken"] == []  # that scheme has no scopes


OLDER = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
BINARY = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("", JSON),
        ("*/*", JSON),
        (f"{JSON};q=0.5,{BINARY}", BINARY),
        (OLDER, BINARY),
        (f"{OLDER},{JSON}", BINARY),
    ],
)
async def test_version_2_is_also_served_in_protobuf(accept: str, answered: str) -> None:
    served = serving.OpenApi(ResourceTable(), FixedClock())
    headers = {"accept": accept} if accept else {}
    answer = await served.v2(Request("GET", "/openapi/v2", headers=headers))
    assert (answer.status, answer.headers["content-type"]) == (200, answered)
    assert isinstance(answer.body, bytes)
    rows = list(ResourceTable())
    document = openapi.document_v2(rows, roots.roots({row.group: None for row in rows}).values())
    assert answer.body == (orjson.dumps(document) if answered == JSON else openapi_v2.document(document))
    etag = answer.headers["etag"]
    again = await served.v2(Request("GET", "/openapi/v2", headers={**headers, "if-none-match": etag}))
    assert (again.status, again.body) == (304, b"")


async def test_another_encoding_is_not_to_be_had() -> None:
    served = serving.OpenApi(ResourceTable(), FixedClock())
    for ask, path in ((served.v2, "/openapi/v2"), (served.v3, "/openapi/v3/apis/apps/v1")):
        answer = await ask(Request("GET", path, headers={"accept": "text/plain"}))
        assert (answer.status, answer.body) == (406, b"")
    accepting = {"accept": f"{OLDER},{JSON}"}
    assert (await served.v3(Request("GET", "/openapi/v3/apis/apps/v1", headers=accepting))).status == 200
