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
from orchestrator.api.resources import CUSTOMRESOURCEDEFINITIONS
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


async def define(server: WholeServer, hook: Converter, storage: str = "v1") -> None:
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
                "versions": [
                    {"name": name, "served": True, "storage": name == storage, "schema": OPEN} for name in ("v1", "v2")
                ],
                "conversion": {"strategy": "Webhook", "webhook": webhook},
            },
        },
    )
    await established(server, "hosts.example.com")


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
    assert not isinstance(watch.body, bytes)
    text = b""
    async with asyncio.timeout(5):
        async for chunk in watch.body:
            text += chunk
            if text.count(b"\n") == 2:
                break
    events = [json.loads(line) for line in text.splitlines()]
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
