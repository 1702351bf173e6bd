"""Kill -9 at random moments of writes by 16 clients: what was acknowledged is there, and watchers miss nothing."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from orchestrator.store.sqlite import SqliteStore
from tests.integration.apiserver.kill import Log, Server, Sessions, Watcher, Writers, all_seen, judge, killed_at
from tests.integration.store.test_etcd import EtcdServer

CLIENTS = 16
WATCHERS = 4
LIMIT_S = 500
SIZES = [
    pytest.param(800, 3, id="800"),
    pytest.param(10_000, 12, id="10000", marks=[pytest.mark.wide, pytest.mark.timeout(1800)]),
]


async def read_log(log: Log, server: Server, *, forget: bool = False) -> None:
    """From the file that a killed server left; `forget` compacts what watchers will want to go on from."""
    store = await SqliteStore.open(server.folder / "store.db")
    await log.read(store)
    if forget:
        await store.compact(store.revision)
    await store.close()


@pytest.mark.parametrize(("count", "kills"), SIZES)
async def test_the_only_server(count: int, kills: int, tmp_path: Path) -> None:
    """Restarted each time on its file, which is compacted once meanwhile: then watchers have to list again."""
    random, server, log = Random(count), Server(tmp_path / "server"), Log()
    server.start()
    try:
        async with Sessions([server]) as sessions, asyncio.timeout(LIMIT_S):
            writers = Writers(sessions, count)
            watchers = [Watcher(sessions, number) for number in range(WATCHERS)]
            following = [asyncio.create_task(watcher.run()) for watcher in watchers]
            writing = asyncio.gather(*(writers.run(number) for number in range(CLIENTS)))
            killed, forgets_at = 0, kills // 2 + 1
            async for _ in killed_at(random, writers, count, kills):
                server.kill()
                killed += 1
                await read_log(log, server, forget=killed == forgets_at)
                server.start()
                if killed == forgets_at - 1:  # one falls behind, until what it missed is forgotten
                    following[0].cancel()
                elif killed == forgets_at:
                    following.append(asyncio.create_task(watchers[0].run()))
            await writing
            await all_seen(watchers, sessions.of(0))
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
    finally:
        server.kill()
    await read_log(log, server)
    assert killed == kills
    assert all(after == before + 1 for before, after in pairwise(log.revisions()))
    assert len(writers.told) > count / 2
    judge(log, writers.told, watchers)
    assert all(watcher.resumed > kills // 2 for watcher in watchers[1:])
    assert len(watchers[0].segments) > 1


@pytest.mark.parametrize(("count", "kills"), SIZES)
async def test_one_of_two_servers_on_etcd(count: int, kills: int, etcd: EtcdServer, tmp_path: Path) -> None:
    """Clients turn to the other one; what either acknowledged is in etcd, and a watch goes on at the other."""
    random, log = Random(count), Log()
    servers = [Server(tmp_path / name, etcd.url) for name in ("one", "two")]
    store = await etcd.store()
    for server in servers:
        server.start()
    try:
        async with Sessions(servers) as sessions, asyncio.timeout(LIMIT_S):
            writers = Writers(sessions, count)
            watchers = [Watcher(sessions, number) for number in range(WATCHERS)]
            following = [asyncio.create_task(watcher.run()) for watcher in watchers]
            writing = asyncio.gather(*(writers.run(number) for number in range(CLIENTS)))
            async for wanted in killed_at(random, writers, count, kills):
                server = servers[wanted % 2]
                server.kill()
                server.start()
            await writing
            await all_seen(watchers, sessions.of(0))
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
    finally:
        for server in servers:
            server.kill()
    await log.read(store)
    await store.close()
    assert len(writers.told) > count / 2
    judge(log, writers.told, watchers)
    assert any(watcher.resumed > 1 for watcher in watchers)
