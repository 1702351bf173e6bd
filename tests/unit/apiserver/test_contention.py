"""Writers of one object at once, over a store that decides a write before it has made it durable."""

import asyncio
from pathlib import Path

from orchestrator.api.resources import CONFIGMAPS
from orchestrator.api.status import NotFound
from orchestrator.store.sqlite import SqliteStore
from tests.apiserver_fixture import Served, serving


async def patch(served: Served, number: int) -> None:
    try:
        await served.client.patch(CONFIGMAPS, "a", "default", {"data": {"n": str(number)}})
    except NotFound:
        return  # the deletion came first


async def test_a_deletion_that_loses_to_a_write_waits_for_it(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    async with serving(store=store) as served:
        await served.client.create(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "default"}})
        async with asyncio.timeout(10):
            await asyncio.gather(
                *(patch(served, number) for number in range(5)),
                served.client.delete(CONFIGMAPS, "a", "default"),
                *(patch(served, number) for number in range(5, 10)),
            )
        assert not (await served.client.list(CONFIGMAPS, "default")).items


async def test_no_patch_is_lost_among_many(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    async with serving(store=store) as served:
        await served.client.create(CONFIGMAPS, {"metadata": {"name": "a", "namespace": "default"}})
        patches = [{"data": {f"k{number}": "x"}} for number in range(8)]
        async with asyncio.timeout(10):
            await asyncio.gather(*(served.client.patch(CONFIGMAPS, "a", "default", patch) for patch in patches))
        assert len((await served.client.get(CONFIGMAPS, "a", "default"))["data"]) == 8
