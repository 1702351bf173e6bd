"""Answers and watches in protobuf: the same as in JSON, encoded once, and refused where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from orchestrator.api.meta import Object
from orchestrator.apiserver import binary
from orchestrator.apiserver.encoding import JSON, PROTOBUF
from orchestrator.apiserver.protobuf import wire
from orchestrator.apiserver.protobuf.decoding import decode
from orchestrator.apiserver.stream import PushStream
from tests.apiserver_fixture import Served, serving
from tests.unit.apiserver.rest import CONFIGMAPS, PODS, call, configmap, pod, send

META = ";g=meta.k8s.io;v=v1"
PARTIAL = f"{PROTOBUF};as=PartialObjectMetadata{META}"
PARTIAL_LIST = f"{PROTOBUF};as=PartialObjectMetadataList{META}"


async def read(served: Served, method: str, url: str, body: Any = None, **headers: str) -> tuple[int, Object]:
    answer = await send(served, method, url, body, **{"accept": PROTOBUF, **headers})
    assert answer.headers["content-type"] == PROTOBUF
    assert isinstance(answer.body, bytes)
    return answer.status, decode(answer.body)


async def test_every_verb_answers_in_protobuf() -> None:
    async with serving() as served:
        assert (await read(served, "POST", CONFIGMAPS, configmap("a", x="1")))[0] == 201
        _, shown = await call(served, "GET", f"{CONFIGMAPS}/a")
        assert await read(served, "GET", f"{CONFIGMAPS}/a") == (200, shown)
        _, listed = await call(served, "GET", CONFIGMAPS)
        items = [{key: inner for key, inner in shown.items() if key not in ("kind", "apiVersion")}]
        assert await read(served, "GET", CONFIGMAPS) == (200, listed | {"items": items})
        patch, kind = {"data": {"y": "2"}}, "application/merge-patch+json"
        _, patched = await read(served, "PATCH", f"{CONFIGMAPS}/a?dryRun=All", patch, content_type=kind)
        assert patched["data"] == {"x": "1", "y": "2"}
        _, replaced = await read(served, "PUT", f"{CONFIGMAPS}/a", configmap("a", y="2"))
        assert replaced["data"] == {"y": "2"}
        status, gone = await read(served, "DELETE", f"{CONFIGMAPS}/a")
        assert (status, gone["kind"], gone["status"], gone["details"]["name"]) == (200, "Status", "Success", "a")


async def test_a_failure_is_a_status_in_the_clients_encoding() -> None:
    async with serving() as served:
        _, told = await call(served, "GET", f"{CONFIGMAPS}/none")
        status, shown = await read(served, "GET", f"{CONFIGMAPS}/none")
        assert (status, shown) == (404, told | {"metadata": {}})
        answer = await send(served, "GET", f"{CONFIGMAPS}/none", accept="application/yaml")
        assert b"reason: NotFound" in answer.body
        answer = await send(served, "GET", f"{CONFIGMAPS}/none", accept=f"{PROTOBUF};as=Table{META}")
        assert (answer.status, answer.headers["content-type"]) == (406, JSON)


async def test_pages() -> None:
    async with serving() as served:
        for name in ("a", "b", "c"):
            await call(served, "POST", CONFIGMAPS, configmap(name))
        _, page = await read(served, "GET", f"{CONFIGMAPS}?limit=1")
        assert page["metadata"]["remainingItemCount"] == 2
        _, rest = await read(served, "GET", f"{CONFIGMAPS}?continue={page['metadata']['continue']}")
        assert [item["metadata"]["name"] for item in page["items"] + rest["items"]] == ["a", "b", "c"]


async def test_metadata_only_and_what_has_no_protobuf() -> None:
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("a", x="1"))
        _, shown = await call(served, "GET", f"{CONFIGMAPS}/a")
        wanted = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": shown["metadata"]}
        for _ in ("encoded for it alone", "cut from the whole object"):
            assert await read(served, "GET", f"{CONFIGMAPS}/a", accept=PARTIAL) == (200, wanted)
            _, listed = await read(served, "GET", CONFIGMAPS, accept=PARTIAL_LIST)
            assert listed["items"] == [{"metadata": shown["metadata"]}]
            await read(served, "GET", CONFIGMAPS)
        table = f"{PROTOBUF};as=Table{META},{JSON};as=Table{META}"
        assert (await call(served, "GET", CONFIGMAPS, accept=table))[1]["kind"] == "Table"


async def test_a_converted_kind() -> None:
    async with serving() as served:
        autoscaler = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a"},
            "spec": {
                "maxReplicas": 3,
                "scaleTargetRef": {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"},
            },
        }
        path = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers"
        assert (await call(served, "POST", path.format("v2"), autoscaler))[0] == 201
        for version in ("v1", "v2"):
            _, told = await call(served, "GET", f"{path.format(version)}/a")
            assert (await read(served, "GET", f"{path.format(version)}/a"))[1] == told


# -- watches -----------------------------------------------------------------------------------------------------------


def events(data: bytes) -> Iterator[tuple[str, Object]]:
    while data:
        size, data = int.from_bytes(data[:4], "big"), data[4:]
        event = dict(wire.fields(data[:size]))
        body = dict(wire.fields(wire.text_or_bytes(event[2])))[1]
        yield wire.text_or_bytes(event[1]).decode(), decode(wire.text_or_bytes(body))
        data = data[size:]


class Watch:
    def __init__(self, body: PushStream) -> None:
        self.body = body
        self._waiting: list[tuple[str, Object]] = []

    async def take(self, count: int) -> list[tuple[str, Object]]:
        async with asyncio.timeout(20):
            while len(self._waiting) < count:
                self._waiting += events(await self.body.__anext__())
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken


async def watch(served: Served, query: str = "", accept: str = PROTOBUF) -> Watch:
    answer = await send(served, "GET", f"{CONFIGMAPS}?watch=true{query}", accept=f"{accept},{JSON}")
    assert answer.headers["content-type"] == f"{PROTOBUF};stream=watch"
    assert isinstance(answer.body, PushStream)
    return Watch(answer.body)


async def test_a_watch_shows_what_happens() -> None:
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("a", x="1"))
        seen = await watch(served, "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
        _, first = await call(served, "GET", f"{CONFIGMAPS}/a")
        (added, bookmark) = await seen.take(2)
        assert added == ("ADDED", first)
        assert bookmark[0] == "BOOKMARK"
        assert bookmark[1]["kind"] == "ConfigMap"
        assert bookmark[1]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        _, second = await call(served, "PUT", f"{CONFIGMAPS}/a", configmap("a", x="2"))
        await call(served, "DELETE", f"{CONFIGMAPS}/a")
        modified, deleted = await seen.take(2)
        assert modified == ("MODIFIED", second)
        assert (deleted[0], deleted[1]["data"]) == ("DELETED", {"x": "2"})
        assert int(deleted[1]["metadata"]["resourceVersion"]) == int(second["metadata"]["resourceVersion"]) + 1


async def test_a_watch_of_metadata() -> None:
    async with serving() as served:
        seen = await watch(served, accept=PARTIAL)
        _, made = await call(served, "POST", CONFIGMAPS, configmap("a", x="1"))
        ((kind, shown),) = await seen.take(1)
        assert (kind, shown["kind"], shown["metadata"]) == ("ADDED", "PartialObjectMetadata", made["metadata"])


async def test_a_watch_that_is_too_old_is_told_in_protobuf() -> None:
    async with serving() as served:
        for index in range(4):
            await call(served, "POST", CONFIGMAPS, configmap(f"c{index}"))
        await served.store.compact(4)
        cache = served.server.core.endpoints["", "v1", "configmaps"].cache
        cache.window_start = 10
        seen = await watch(served, "&resourceVersion=1")
        ((kind, status),) = await seen.take(1)
        assert (kind, status["kind"], status["code"], status["reason"]) == ("ERROR", "Status", 410, "Expired")


async def test_a_watch_in_yaml_is_refused() -> None:
    async with serving() as served:
        answer = await send(served, "GET", f"{CONFIGMAPS}?watch=true", accept="application/yaml,application/json")
        assert isinstance(answer.body, bytes)
        told = yaml.safe_load(answer.body)
        assert (answer.status, told["message"]) == (
            406,
            "only the following media types are accepted: "
            "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
        )


async def test_an_object_is_encoded_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two watchers, two lists, a GET and a watch that starts later: one encoding a revision."""
    written: list[str] = []
    write = binary.BinaryObjects._write

    def counted(self: binary.BinaryObjects, obj: Object) -> bytes:
        written.append(obj["metadata"]["name"])
        return write(self, obj)

    monkeypatch.setattr(binary.BinaryObjects, "_write", counted)
    async with serving() as served:
        one, two = await watch(served), await watch(served)
        await call(served, "POST", CONFIGMAPS, configmap("a"))
        assert (await one.take(1)) == (await two.take(1))
        await read(served, "GET", f"{CONFIGMAPS}/a")
        for _ in range(2):
            await read(served, "GET", CONFIGMAPS)
        await (await watch(served)).take(1)
        assert written == ["a"]
        await read(served, "PUT", f"{CONFIGMAPS}/a", configmap("a", x="1"))
        assert written == ["a", "a"]
        await call(served, "GET", CONFIGMAPS)
        await call(served, "POST", CONFIGMAPS, configmap("b"))  # nobody reads JSON for it: the watchers did
        assert written == ["a", "a", "b"]


async def test_many_objects_leave_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "TOGETHER", 2)
    async with serving() as served:
        for index in range(9):
            await call(served, "POST", PODS, pod(f"p{index}"))
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.get_running_loop().create_task(others())
        _, listed = await read(served, "GET", PODS)
        task.cancel()
        assert (len(listed["items"]), turns) == (9, 4)


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", ["text/yaml", "application/x-yaml", "application/cbor", "application/json2"])
async def test_bodies_of_other_types_are_refused(media_type: str) -> None:
    async with serving() as served:
        status, told = await call(served, "POST", CONFIGMAPS, configmap("a"), content_type=media_type)
        assert (status, told["message"]) == (
            415,
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )
