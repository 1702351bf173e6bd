"""GET and LIST: pages that are one snapshot, resource versions, selectors, other representations."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.clock import FixedClock
from tests.apiserver_fixture import Served, serving
from tests.unit.apiserver.rest import CONFIGMAPS, PODS, call, configmap, pod


async def fill(served: Served, count: int) -> None:
    for number in range(count):
        await call(served, "POST", CONFIGMAPS, configmap(f"c{number}", x=str(number)))


def names(listed: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


async def test_pages_are_one_snapshot() -> None:
    async with serving() as served:
        await fill(served, 5)
        _, page = await call(served, "GET", f"{CONFIGMAPS}?limit=2")
        assert (names(page), page["metadata"]["remainingItemCount"]) == (["c0", "c1"], 3)
        await call(served, "DELETE", f"{CONFIGMAPS}/c2")
        await call(served, "POST", CONFIGMAPS, configmap("c25"))
        await call(served, "PUT", f"{CONFIGMAPS}/c3", configmap("c3", x="new"))
        token = page["metadata"]["continue"]
        _, rest = await call(served, "GET", f"{CONFIGMAPS}?limit=2&continue={token}")
        assert (names(rest), rest["metadata"]["resourceVersion"]) == (["c2", "c3"], page["metadata"]["resourceVersion"])
        assert rest["items"][1]["data"] == {"x": "3"}
        _, last = await call(served, "GET", f"{CONFIGMAPS}?limit=2&continue={rest['metadata']['continue']}")
        assert names(last) == ["c4"]
        assert "continue" not in last["metadata"]


async def test_a_token_expires_though_nothing_of_the_kind_has_changed() -> None:
    async with serving() as served:
        for name in "abc":
            await call(served, "POST", CONFIGMAPS, configmap(name))
        _, first = await call(served, "GET", f"{CONFIGMAPS}?limit=1")
        await call(served, "POST", PODS, pod("p"))
        await served.store.compact(served.store.revision)
        code, answer = await call(served, "GET", f"{CONFIGMAPS}?limit=1&continue={first['metadata']['continue']}")
        assert (code, answer["reason"]) == (410, "Expired")
        code, rest = await call(served, "GET", f"{CONFIGMAPS}?continue={answer['metadata']['continue']}")
        assert (code, [item["metadata"]["name"] for item in rest["items"]]) == (200, ["b", "c"])
        exact = f"resourceVersion={first['metadata']['resourceVersion']}&resourceVersionMatch=Exact"
        assert (await call(served, "GET", f"{CONFIGMAPS}?{exact}"))[0] == 410


async def test_a_compacted_page_answers_expired_with_a_way_on() -> None:
    async with serving() as served:
        await fill(served, 5)
        _, page = await call(served, "GET", f"{CONFIGMAPS}?limit=2")
        await call(served, "DELETE", f"{CONFIGMAPS}/c3")
        await served.store.compact(served.store.revision)
        url = f"{CONFIGMAPS}?limit=2&continue={page['metadata']['continue']}"
        status, answer = await call(served, "GET", url)
        assert (status, answer["reason"]) == (410, "Expired")
        _, rest = await call(served, "GET", f"{CONFIGMAPS}?continue={answer['metadata']['continue']}")
        assert names(rest) == ["c2", "c4"]


async def test_resource_versions() -> None:
    async with serving() as served:
        await fill(served, 3)
        _, old = await call(served, "GET", f"{CONFIGMAPS}?resourceVersion=2&resourceVersionMatch=Exact")
        assert (names(old), old["metadata"]["resourceVersion"]) == (["c0"], "2")
        _, newer = await call(served, "GET", f"{CONFIGMAPS}?resourceVersion=2&resourceVersionMatch=NotOlderThan")
        assert len(newer["items"]) == 3
        _, cached = await call(served, "GET", f"{CONFIGMAPS}?resourceVersion=0&limit=1")
        assert len(cached["items"]) == 3


async def test_a_revision_from_the_future_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.apiserver.reading.FUTURE_WAIT_S", 0.0)
    async with serving() as served:
        status, answer = await call(served, "GET", f"{CONFIGMAPS}?resourceVersion=999")
        assert (status, answer["reason"]) == (504, "Timeout")
        assert answer["message"] == "Timeout: Too large resource version: 999, current: 1"
        assert answer["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


BAD_QUERIES = [
    ("resourceVersionMatch=Exact", 422, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
    ("resourceVersion=0&resourceVersionMatch=Exact", 422, '"exact" is forbidden for resourceVersion "0"'),
    ("resourceVersion=x", 400, "resourceVersion: Invalid value"),
    ("continue=%20", 400, "invalid continue token: continue key is not valid"),
    ("labelSelector=a+in+(", 400, "unable to parse requirement"),
    ("fieldSelector=spec.x%3Dy", 400, '"spec.x" is not a known field selector: only "metadata.name"'),
    ("sendInitialEvents=true", 422, "sendInitialEvents is forbidden for list"),
]


@pytest.mark.parametrize(("query", "code", "message"), BAD_QUERIES)
async def test_bad_queries(query: str, code: int, message: str) -> None:
    async with serving() as served:
        status, answer = await call(served, "GET", f"{CONFIGMAPS}?{query}")
        assert status == code
        assert message in answer["message"]


async def test_selectors() -> None:
    async with serving() as served:
        for name, node, app in (("a", "n1", "web"), ("b", "n2", "web"), ("c", "n1", "db")):
            body = pod(name, nodeName=node)
            body["metadata"]["labels"] = {"app": app}
            await call(served, "POST", PODS, body)
        for query, wanted in (
            ("labelSelector=app%3Dweb", ["a", "b"]),
            ("labelSelector=app+notin+(web)", ["c"]),
            ("fieldSelector=spec.nodeName%3Dn1", ["a", "c"]),
            ("fieldSelector=spec.nodeName%3Dn1&labelSelector=app%3Dweb", ["a"]),
            ("fieldSelector=metadata.name%3Db", ["b"]),
            ("fieldSelector=metadata.name!%3Db,status.phase%3DPending", ["a", "c"]),
            ("fieldSelector=spec.hostNetwork%3Dfalse&limit=1", ["a"]),
        ):
            _, listed = await call(served, "GET", f"{PODS}?{query}")
            assert names(listed) == wanted, query
        status, answer = await call(served, "GET", f"{PODS}?fieldSelector=spec.foo%3Dx")
        assert (status, answer["message"]) == (400, "field label not supported: spec.foo")


async def test_a_selected_page_goes_on_where_it_stopped() -> None:
    async with serving() as served:
        for number in range(9):
            body = configmap(f"c{number}")
            body["metadata"]["labels"] = {"third": str(number % 3)}
            await call(served, "POST", CONFIGMAPS, body)
        _, page = await call(served, "GET", f"{CONFIGMAPS}?limit=1&labelSelector=third%3D1")
        assert names(page) == ["c1"]
        assert "remainingItemCount" not in page["metadata"]
        await call(served, "DELETE", f"{CONFIGMAPS}/c7")
        token = page["metadata"]["continue"]
        _, rest = await call(served, "GET", f"{CONFIGMAPS}?limit=5&labelSelector=third%3D1&continue={token}")
        assert names(rest) == ["c4", "c7"]


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


async def test_tables() -> None:
    clock = FixedClock()
    async with serving(clock=clock) as served:
        await fill(served, 2)
        clock.advance(90)
        _, table = await call(served, "GET", CONFIGMAPS, accept=TABLE)
        assert table["kind"] == "Table"
        assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
        assert [row["cells"] for row in table["rows"]] == [["c0", 1, "90s"], ["c1", 1, "90s"]]
        assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
        _, single = await call(served, "GET", f"{CONFIGMAPS}/c0?includeObject=Object", accept=TABLE)
        assert single["rows"][0]["object"]["data"] == {"x": "0"}
        status, _ = await call(served, "GET", f"{CONFIGMAPS}?includeObject=All", accept=TABLE)
        assert status == 422


async def test_metadata_only() -> None:
    async with serving() as served:
        await fill(served, 1)
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        _, listed = await call(served, "GET", CONFIGMAPS, accept=accept)
        assert listed["kind"] == "PartialObjectMetadataList"
        (item,) = listed["items"]
        assert set(item) == {"kind", "apiVersion", "metadata"}
        assert (item["kind"], item["metadata"]["name"]) == ("PartialObjectMetadata", "c0")
