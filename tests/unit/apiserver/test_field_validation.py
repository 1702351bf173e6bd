"""Keys that a body has twice: refused with fieldValidation=Strict, warned of otherwise, in every format."""

from __future__ import annotations

import pytest

from tests.apiserver_fixture import serving
from tests.unit.apiserver.rest import CONFIGMAPS, call, configmap, send

YAML, APPLY = "application/yaml", "application/apply-patch+yaml"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
TWICE = b"""
apiVersion: v1
kind: ConfigMap
metadata:
  name: a
data:
  x: "1"
  x: "2"
  more: >
    text
  x:
    "3"
"""
TOLD = ['line 8: key "x" already set in map', 'line 12: key "x" already set in map']
YAML_ERROR = "yaml: unmarshal errors:\n  " + "\n  ".join(TOLD)
STRICTLY = "fieldValidation=Strict"


async def test_an_applied_body() -> None:
    url = f"{CONFIGMAPS}/a?fieldManager=m"
    async with serving() as served:
        code, found = await call(served, "PATCH", f"{url}&{STRICTLY}", TWICE, content_type=APPLY)
        message = f"error strict decoding YAML: error converting YAML to JSON: {YAML_ERROR}"
        assert (code, found["message"]) == (400, message)
        assert (await call(served, "GET", f"{CONFIGMAPS}/a"))[0] == 404
        warned = await send(served, "PATCH", url, TWICE, content_type=APPLY)
        shown = [f'299 - "{one}"' for one in (told.replace('"', '\\"') for told in TOLD)]
        assert (warned.status, warned.headers["warning"]) == (201, ", ".join(shown))
        ignored = await send(served, "PATCH", f"{url}&fieldValidation=Ignore", TWICE, content_type=APPLY)
        assert (ignored.status, "warning" in ignored.headers) == (200, False)


async def test_an_applied_body_that_is_json() -> None:
    text = b'{"apiVersion": "v1", "kind": "ConfigMap",\n "metadata": {"name": "a"}, "data": {"x": "1", "x": "2"}}'
    async with serving() as served:
        url = f"{CONFIGMAPS}/a?fieldManager=m&{STRICTLY}"
        code, found = await call(served, "PATCH", url, text, content_type=APPLY)
        assert code == 400 and 'line 2: key "x" already set in map' in found["message"]
        code, _ = await call(served, "PATCH", url, text.replace(b', "x": "2"', b""), content_type=APPLY)
        assert code == 201


async def test_a_body_in_yaml() -> None:
    async with serving() as served:
        code, found = await call(served, "POST", f"{CONFIGMAPS}?{STRICTLY}", TWICE + b"unknown: y\n", content_type=YAML)
        why = f'strict decoding error: {YAML_ERROR}, unknown field "unknown"'
        kind = 'ConfigMap in version "v1" cannot be handled as a ConfigMap'
        assert (code, found["message"]) == (400, f"{kind}: {why}")
        warned = await send(served, "POST", CONFIGMAPS, TWICE, content_type=YAML)
        assert (warned.status, warned.headers["warning"].count("already set in map")) == (201, 2)


@pytest.mark.parametrize(
    ("media_type", "patch", "told"),
    [
        pytest.param(MERGE, b'{"data": {"x": "1", "x": "2"}}', 'duplicate field "data.x"', id="merge"),
        pytest.param(STRATEGIC, b'{"data": {"x": "1", "x": "2"}}', 'duplicate field "data.x"', id="strategic"),
        pytest.param(
            JSON_PATCH,
            b'[{"op": "add", "path": "/data/x", "path": "/data/x", "value": "2", "foo": 1}]',
            'json patch duplicate field "[0].path", json patch unknown field "[0].foo"',
            id="json",
        ),
    ],
)
async def test_a_patch(media_type: str, patch: bytes, told: str) -> None:
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("a", y="1"))
        url = f"{CONFIGMAPS}/a"
        code, found = await call(served, "PATCH", f"{url}?{STRICTLY}", patch, content_type=media_type)
        assert code == 422 and found["message"].endswith(f": strict decoding error: {told}")
        warned = await send(served, "PATCH", url, patch, content_type=media_type)
        assert warned.status == 200
        assert warned.headers["warning"].count("299 - ") == told.count("field")
