"""Many writers of one object, on the store that decides a write before it is durable: all land, or lose in order."""

from __future__ import annotations

import asyncio

from orchestrator.api.resources import CONFIGMAPS
from orchestrator.api.status import AlreadyExists, ApiError, Conflict, NotFound
from tests.whole_server import WholeServer

LIMIT_S = 30


def configmap(name: str, **data: str) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


async def test_patches_of_one_object_all_land(server: WholeServer) -> None:
    await server.admin.create(CONFIGMAPS, configmap("a"))
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(
            *(server.admin.patch(CONFIGMAPS, "a", "default", {"data": {f"k{n}": "v"}}, kind="merge") for n in range(60))
        )
    found = await server.admin.get(CONFIGMAPS, "a", "default")
    assert len(found["data"]) == 60


async def test_of_updates_from_one_revision_one_wins(server: WholeServer) -> None:
    made = await server.admin.create(CONFIGMAPS, configmap("a"))
    async with asyncio.timeout(LIMIT_S):
        results = await asyncio.gather(
            *(server.admin.update(CONFIGMAPS, {**made, "data": {"n": str(n)}}) for n in range(30)),
            return_exceptions=True,
        )
    assert sum(isinstance(result, dict) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 29


async def test_creates_updates_and_deletes_of_one_name(server: WholeServer) -> None:
    """Whatever the order, each ends with an answer that fits, and the watch tells one consistent story."""

    async def churn(number: int) -> None:
        for turn in range(5):
            try:
                if (number + turn) % 3 == 0:
                    await server.admin.create(CONFIGMAPS, configmap("a", by=str(number)))
                elif (number + turn) % 3 == 1:
                    patch = {"data": {"by": str(number), "turn": str(turn)}}
                    await server.admin.patch(CONFIGMAPS, "a", "default", patch, kind="merge")
                else:
                    await server.admin.delete(CONFIGMAPS, "a", "default")
            except (AlreadyExists, NotFound, Conflict):
                continue

    start = str(server.api.core.store.revision)
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(churn(number) for number in range(40)))
    is_there, last = False, 0
    try:
        async for event in server.admin.watch(CONFIGMAPS, namespace="default", resource_version=start, timeout_s=1):
            revision = int(event.object["metadata"]["resourceVersion"])
            assert revision > last
            last = revision
            assert (event.type == "ADDED") is not is_there
            is_there = event.type != "DELETED"
    except ApiError as error:
        raise AssertionError(f"the watch failed: {error}") from error
    try:
        await server.admin.get(CONFIGMAPS, "a", "default")
        assert is_there
    except NotFound:
        assert not is_there
