"""LIST: pages are one snapshot, revisions mean what they say, selectors select, tables and metadata on request."""

from __future__ import annotations

import pytest

from orchestrator.api.resources import CONFIGMAPS, SECRETS
from orchestrator.client.client import Client
from tests.contract.objects import TABLE, call, configmap, names, revision

pytestmark = pytest.mark.asyncio(loop_scope="session")
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


async def test_pages_are_one_snapshot(client: Client, namespace: str) -> None:
    for number in range(5):
        await client.create(CONFIGMAPS, configmap(namespace, f"c{number}", x="1"))
    first = await client.list(CONFIGMAPS, namespace, limit=2)
    await client.create(CONFIGMAPS, configmap(namespace, "c9"))
    await client.delete(CONFIGMAPS, "c3", namespace)
    second = await client.list(CONFIGMAPS, namespace, limit=2, continue_token=first.continue_token)
    third = await client.list(CONFIGMAPS, namespace, limit=2, continue_token=second.continue_token)
    pages = [names(page.items) for page in (first, second, third)]
    assert pages == [["c0", "c1"], ["c2", "c3"], ["c4"]]
    assert {first.resource_version, second.resource_version, third.resource_version} == {first.resource_version}
    assert third.continue_token == ""
    assert names((await client.list(CONFIGMAPS, namespace)).items) == ["c0", "c1", "c2", "c4", "c9"]


async def test_a_page_says_how_much_is_left(client: Client, namespace: str) -> None:
    for number in range(3):
        await client.create(CONFIGMAPS, configmap(namespace, f"c{number}", labels={"on": ""}))
    _, page = await call(client, "GET", f"{CONFIGMAPS.path(namespace)}?limit=1")
    assert page["metadata"]["remainingItemCount"] == 2
    _, selected = await call(client, "GET", f"{CONFIGMAPS.path(namespace)}?limit=1&labelSelector=on")
    assert "remainingItemCount" not in selected["metadata"]


async def test_an_exact_revision_is_the_past(client: Client, namespace: str) -> None:
    made = await client.create(CONFIGMAPS, configmap(namespace, "a"))
    await client.create(CONFIGMAPS, configmap(namespace, "b"))
    past = f"{CONFIGMAPS.path(namespace)}?resourceVersion={revision(made)}&resourceVersionMatch="
    _, exact = await call(client, "GET", past + "Exact")
    assert (names(exact["items"]), exact["metadata"]["resourceVersion"]) == (["a"], str(revision(made)))
    _, newer = await call(client, "GET", past + "NotOlderThan")
    assert revision(newer) >= revision(made)


async def test_a_list_is_as_new_as_the_last_write(client: Client, namespace: str) -> None:
    for number in range(20):
        made = await client.create(CONFIGMAPS, configmap(namespace, f"c{number}"))
        found = await client.list(CONFIGMAPS, namespace)
        assert len(found.items) == number + 1
        assert int(found.resource_version) >= revision(made)


@pytest.mark.parametrize(
    ("selector", "wanted"),
    [
        ("app", ["a", "b"]),
        ("!app", ["c"]),
        ("app=x", ["a"]),
        ("app!=x", ["b", "c"]),
        ("app in (x,y)", ["a", "b"]),
        ("app notin (x)", ["b", "c"]),
        ("app,tier=1", ["b"]),
        ("size>3", ["c"]),
    ],
)
async def test_label_selectors(client: Client, namespace: str, selector: str, wanted: list[str]) -> None:
    for name, labels in (("a", {"app": "x"}), ("b", {"app": "y", "tier": "1"}), ("c", {"size": "4"})):
        await client.create(CONFIGMAPS, configmap(namespace, name, labels=labels))
    assert names((await client.list(CONFIGMAPS, namespace, label_selector=selector)).items) == wanted


async def test_field_selectors(client: Client, namespace: str) -> None:
    for name, kind in (("a", "x/y"), ("b", "Opaque")):
        await client.create(SECRETS, {"metadata": {"name": name, "namespace": namespace}, "type": kind})
    assert names((await client.list(SECRETS, namespace, field_selector="type=x/y")).items) == ["a"]
    assert names((await client.list(SECRETS, namespace, field_selector="type!=x/y,metadata.name=b")).items) == ["b"]


@pytest.mark.parametrize(
    "query",
    ["labelSelector=a+b", "fieldSelector=spec.x%3D1", "limit=x", "continue=x", "resourceVersion=x",
     "resourceVersionMatch=Exact", "resourceVersion=0&resourceVersionMatch=Exact"],
)  # fmt: skip
async def test_bad_queries(client: Client, namespace: str, query: str) -> None:
    code, answer = await call(client, "GET", f"{CONFIGMAPS.path(namespace)}?{query}")
    assert (code, answer["kind"], answer["status"]) in [(400, "Status", "Failure"), (422, "Status", "Failure")]


async def test_tables(client: Client, namespace: str) -> None:
    await client.create(CONFIGMAPS, configmap(namespace, "a", x="1", y="2"))
    code, table = await call(client, "GET", CONFIGMAPS.path(namespace), accept=TABLE)
    assert (code, table["kind"], table["apiVersion"]) == (200, "Table", "meta.k8s.io/v1")
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert table["rows"][0]["cells"][:2] == ["a", 2]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    _, whole = await call(client, "GET", f"{CONFIGMAPS.path(namespace)}?includeObject=Object", accept=TABLE)
    assert whole["rows"][0]["object"]["data"] == {"x": "1", "y": "2"}


async def test_metadata_only(client: Client, namespace: str) -> None:
    made = await client.create(CONFIGMAPS, configmap(namespace, "a", x="1"))
    _, found = await call(client, "GET", CONFIGMAPS.path(namespace), accept=METADATA_LIST)
    assert found["kind"] == "PartialObjectMetadataList"
    assert [(item["kind"], item["metadata"], "data" in item) for item in found["items"]] == [
        ("PartialObjectMetadata", made["metadata"], False)
    ]


async def test_what_cannot_be_given_is_not_acceptable(client: Client, namespace: str) -> None:
    code, answer = await call(client, "GET", CONFIGMAPS.path(namespace), accept="application/x-nothing")
    assert (code, answer["reason"]) == (406, "NotAcceptable")
