"""Conversion webhooks: the same objects in versions that differ, read, written, listed and watched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from infra import pki
from infra.topology import Topology
from orchestrator.api.resources import CUSTOMRESOURCEDEFINITIONS, Resource
from orchestrator.api.wire import Response
from orchestrator.apiserver import encoding
from tests.integration.apiserver.test_custom_resources import call, established, read
from tests.integration.apiserver.test_webhooks import Hook, hook_server
from tests.whole_server import WholeServer, whole_server

Json = dict[str, Any]
ROOT = "/apis/example.com/{}/namespaces/default/hosts"
OPEN = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}


class Converter(Hook):
    """v1 has `hostPort: "host:port"`, v2 has `host` and `port`."""

    fails = False

    async def serve(self, request: web.Request) -> web.Response:
        review = await request.json()
        asked = review["request"]
        self.seen.append((asked["desiredAPIVersion"], asked))
        result: Json = {"status": "Failed", "message": "out of order"} if self.fails else {"status": "Success"}
        made = [self.convert(obj, asked["desiredAPIVersion"]) for obj in asked["objects"]]
        response = {"uid": asked["uid"], "result": result, "convertedObjects": [] if self.fails else made}
        return web.json_response({"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response})

    @staticmethod
    def convert(obj: Json, wanted: str) -> Json:
        made = {**obj, "apiVersion": wanted}
        if wanted.endswith("/v2") and "hostPort" in made:
            made["host"], _, made["port"] = made.pop("hostPort").partition(":")
        elif wanted.endswith("/v1") and "host" in made:
            made["hostPort"] = f"{made.pop('host')}:{made.pop('port')}"
        return made


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WholeServer]:
    async with whole_server(tmp_path) as made:
        yield made


@pytest.fixture
async def hook(tmp_path: Path) -> AsyncIterator[Converter]:
    pki.ensure(tmp_path / "pki", Topology(name="test", workers=0))
    async with hook_server(tmp_path / "pki", Converter) as made:
        assert isinstance(made, Converter)
        yield made


async def define(server: WholeServer, hook: Converter, storage: str = "v1", **selectable: list[str]) -> None:
    """`selectable`: version → names of its fields that it can be selected by."""
    client = {"url": f"{hook.url}/convert", "caBundle": hook.bundle}
    webhook = {"clientConfig": client, "conversionReviewVersions": ["v1"]}
    await server.admin.create(
        CUSTOMRESOURCEDEFINITIONS,
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "hosts.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": "hosts", "kind": "Host"},
                "versions": [_version(name, storage, selectable.get(name, [])) for name in ("v1", "v2")],
                "conversion": {"strategy": "Webhook", "webhook": webhook},
            },
        },
    )
    await established(server, "hosts.example.com")


def _version(name: str, storage: str, selectable: list[str]) -> Json:
    properties = {field: {"type": "string"} for field in selectable}
    return {
        "name": name,
        "served": True,
        "storage": name == storage,
        "schema": {"openAPIV3Schema": {**OPEN["openAPIV3Schema"], "properties": properties}},
        "selectableFields": [{"jsonPath": f".{field}"} for field in selectable],
    }


async def events_of(watch: Response, count: int) -> list[Json]:
    assert not isinstance(watch.body, bytes)
    text = b""
    async with asyncio.timeout(20):
        async for chunk in watch.body:
            text += chunk
            if text.count(b"\n") >= count:
                break
    return [json.loads(line) for line in text.splitlines()]


def host(version: str, name: str = "one", **fields: str) -> Json:
    return {"apiVersion": f"example.com/{version}", "kind": "Host", "metadata": {"name": name}, **fields}


async def test_each_version_shows_its_own_fields(server: WholeServer, hook: Converter) -> None:
    await define(server, hook)
    made = read(await call(server, "POST", ROOT.format("v2"), host("v2", host="a", port="1")))
    assert (made["apiVersion"], made["host"], made["port"]) == ("example.com/v2", "a", "1")
    stored = read(await call(server, "GET", f"{ROOT.format('v1')}/one"))
    assert (stored["hostPort"], "host" in stored) == ("a:1", False)
    await call(server, "POST", ROOT.format("v1"), host("v1", "two", hostPort="b:2"))
    listed = read(await call(server, "GET", ROOT.format("v2")))
    assert [(item["host"], item["port"]) for item in listed["items"]] == [("a", "1"), ("b", "2")]
    patch = {"port": "9"}
    answer = await call(server, "PATCH", f"{ROOT.format('v2')}/two", patch, content_type="application/merge-patch+json")
    assert read(answer)["port"] == "9"
    assert read(await call(server, "GET", f"{ROOT.format('v1')}/two"))["hostPort"] == "b:9"


async def test_a_watch_is_converted_in_order(server: WholeServer, hook: Converter) -> None:
    await define(server, hook)
    watch = await call(server, "GET", f"{ROOT.format('v2')}?watch=true")
    await call(server, "POST", ROOT.format("v1"), host("v1", hostPort="a:1"))
    await call(server, "DELETE", f"{ROOT.format('v1')}/one")
    events = await events_of(watch, 2)
    assert [(event["type"], event["object"]["host"]) for event in events] == [("ADDED", "a"), ("DELETED", "a")]


async def test_what_cannot_be_converted_is_an_error(server: WholeServer, hook: Converter) -> None:
    await define(server, hook)
    await call(server, "POST", ROOT.format("v1"), host("v1", hostPort="a:1"))
    hook.fails = True
    answer = await call(server, "GET", f"{ROOT.format('v2')}/one")
    assert answer.status == 500
    assert read(answer)["message"] == "conversion webhook for example.com/v1, Kind=Host failed: out of order"
    assert (await call(server, "GET", f"{ROOT.format('v1')}/one")).status == 200


async def test_a_new_storage_version_converts_what_is_kept(server: WholeServer, hook: Converter) -> None:
    await define(server, hook)
    await call(server, "POST", ROOT.format("v1"), host("v1", hostPort="a:1"))
    current = await server.admin.get(CUSTOMRESOURCEDEFINITIONS, "hosts.example.com")
    for version in current["spec"]["versions"]:
        version["storage"] = version["name"] == "v2"
    changed = await server.admin.update(CUSTOMRESOURCEDEFINITIONS, current)
    assert changed["status"]["storedVersions"] == ["v1", "v2"]
    async with asyncio.timeout(5):
        while read(await call(server, "GET", f"{ROOT.format('v2')}/one")).get("port") != "1":
            await asyncio.sleep(0.01)
    assert read(await call(server, "GET", f"{ROOT.format('v1')}/one"))["hostPort"] == "a:1"


async def test_a_write_that_was_under_way_in_the_version_before(server: WholeServer, hook: Converter) -> None:
    """Another server, or a request that began before the definition changed, still writes what it knew."""
    await define(server, hook, storage="v2")
    await call(server, "POST", ROOT.format("v2"), host("v2", host="a", port="1"))
    core = server.api.core
    watch = await call(server, "GET", f"{ROOT.format('v2')}?watch=true&resourceVersion={core.cache.revision}")
    row = Resource("example.com", "v1", "hosts", "Host", namespaced=True)
    metadata = {"name": "two", "namespace": "default", "uid": "2", "creationTimestamp": "2026-01-01T00:00:00Z"}
    old = {**host("v1", "two", hostPort="b:2"), "metadata": metadata}
    revision = await core.store.create("hosts.example.com/default/two", encoding.encode(row, old))
    await call(server, "POST", ROOT.format("v2"), host("v2", "zzz", host="c", port="3"))
    listed = read(await call(server, "GET", ROOT.format("v2")))
    assert [(item["host"], "hostPort" in item) for item in listed["items"]] == [
        ("a", False),
        ("b", False),
        ("c", False),
    ]
    assert read(await call(server, "GET", f"{ROOT.format('v1')}/two"))["hostPort"] == "b:2"
    events = await events_of(watch, 2)
    assert [(event["type"], event["object"]["host"]) for event in events] == [("ADDED", "b"), ("ADDED", "c")]
    exact = f"resourceVersion={revision}&resourceVersionMatch=Exact"
    snapshot = read(await call(server, "GET", f"{ROOT.format('v2')}?{exact}"))
    assert [item["host"] for item in snapshot["items"]] == ["a", "b"]


async def test_a_version_is_selected_by_its_own_fields(server: WholeServer, hook: Converter) -> None:
    await define(server, hook, v1=["hostPort"], v2=["host", "port"])
    v1, v2 = ROOT.format("v1"), ROOT.format("v2")
    watch = await call(server, "GET", f"{v2}?watch=true&fieldSelector=host=a,port=1")
    for name, place in (("one", "a:1"), ("two", "a:2"), ("three", "b:1")):
        await call(server, "POST", v1, host("v1", name, hostPort=place))

    async def names(url: str) -> list[str]:
        return [item["metadata"]["name"] for item in read(await call(server, "GET", url))["items"]]

    assert await names(f"{v2}?fieldSelector=host=a") == ["one", "two"]
    assert await names(f"{v2}?fieldSelector=host=a,port=1") == ["one"]
    assert await names(f"{v2}?fieldSelector=host=a&limit=1") == ["one"]
    assert await names(f"{v1}?fieldSelector=hostPort=b:1") == ["three"]
    for url in (f"{v1}?fieldSelector=host=a", f"{v2}?fieldSelector=hostPort=a:1"):
        assert (await call(server, "GET", url)).status == 400
    await call(server, "PATCH", f"{v1}/one", {"hostPort": "c:1"}, content_type="application/merge-patch+json")
    await call(server, "PATCH", f"{v1}/two", {"hostPort": "a:1"}, content_type="application/merge-patch+json")
    events = await events_of(watch, 3)
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "one"), ("DELETED", "one"), ("ADDED", "two"),
    ]  # fmt: skip
