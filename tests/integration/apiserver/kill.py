"""Clients and watchers of API servers that are killed, and what the store has to tell of them afterwards.

16 writers each create, change and delete objects of their own, and note what was acknowledged. Watchers follow all of
it, and go on from the last revision that they saw, or list again where that is too old. The log is the store's history,
read while no server runs: revision → what was written. Judged against it:
    - each acknowledged write is in it, with its content;
    - each watcher saw exactly the part of it from where it (re)started to where it ended, in order, nothing twice;
    - each list is the state at its revision.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import orjson

from orchestrator.store.interface import Store
from tests.whole_server import free_port

NAMESPACE = "default"
PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
PREFIX = f"configmaps/{NAMESPACE}/"
AGAIN_S = 0.02
LIMIT_S = 120  # until a server answers again
HISTORY_PAGE = 1000
UNREACHABLE = (aiohttp.ClientError, ConnectionError, ssl.SSLError, asyncio.TimeoutError)
PROGRAM = """
import sys
from pathlib import Path
import uvloop
from orchestrator.apiserver.main import run
from tests.whole_server import settings
folder, port, etcd = Path(sys.argv[1]), int(sys.argv[2]), tuple(sys.argv[3:])
uvloop.run(run(settings(folder, port, etcd_servers=etcd)))
"""


class Server:
    """An API server in a process of its own."""

    def __init__(self, folder: Path, *etcd: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.port, self._etcd = folder, free_port(), etcd
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [sys.executable, "-c", PROGRAM, str(self.folder), str(self.port), *self._etcd]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, cwd=Path(__file__).parents[3])

    def kill(self) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Sessions:
    """A connection pool for each server, and which of them a client turns to."""

    def __init__(self, servers: list[Server]) -> None:
        self._servers = servers
        self._open: list[aiohttp.ClientSession] = []

    async def __aenter__(self) -> Sessions:
        for server in self._servers:
            keys = server.folder / "pki"
            authority, certificate, key = keys / "ca.crt", keys / "admin.crt", keys / "admin.key"
            async with asyncio.timeout(LIMIT_S):
                while not (authority.exists() and certificate.exists() and key.exists()):  # the server makes them
                    await asyncio.sleep(AGAIN_S)
            tls = ssl.create_default_context(cafile=str(authority))
            tls.load_cert_chain(certificate, key)
            connector = aiohttp.TCPConnector(ssl=tls, limit=0)
            self._open.append(aiohttp.ClientSession(f"https://127.0.0.1:{server.port}", connector=connector))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(session.close() for session in self._open))

    def of(self, number: int) -> aiohttp.ClientSession:
        return self._open[number % len(self._open)]


@dataclass
class Acknowledged:
    """`text` is None for a deletion; its revision is not told, so it is the one before, and 0 is no write."""

    name: str
    revision: int
    text: str | None


@dataclass
class Writers:
    """What is still to be written, and what was acknowledged."""

    sessions: Sessions
    left: int
    told: list[Acknowledged] = field(default_factory=list)

    async def run(self, number: int) -> None:
        turn, which = 0, number
        while self.left > 0:
            turn += 1
            name = f"c{number}-{turn}"
            which = await self._one_life(which, name)

    async def _one_life(self, which: int, name: str) -> int:
        """Creates, changes a few times, deletes; after a lost connection goes on from what is there."""
        wanted, step = [f"{name}-{count}" for count in range(4)], 0
        while step <= len(wanted):
            text = wanted[step] if step < len(wanted) else None
            self.left -= 1
            try:
                async with asyncio.timeout(LIMIT_S):
                    revision = await self._write(which, name, step, text)
            except UNREACHABLE:  # it may have been written or not: look
                which += 1
                step = await self._step_reached(which, name, wanted, step)
                continue
            self.told.append(Acknowledged(name, revision, text))
            step += 1
        return which

    async def _write(self, which: int, name: str, step: int, text: str | None) -> int:
        session = self.sessions.of(which)
        body = orjson.dumps({"metadata": {"name": name}, "data": {"text": text}})
        if step == 0:
            request = session.post(PATH, data=body, headers={"content-type": "application/json"})
        elif text is not None:
            headers = {"content-type": "application/merge-patch+json"}
            request = session.patch(f"{PATH}/{name}", data=body, headers=headers)
        else:
            request = session.delete(f"{PATH}/{name}")
        async with request as answer:
            found = orjson.loads(await answer.read())
            assert answer.status in (200, 201), found
            return int(found["metadata"]["resourceVersion"]) if text is not None else self._last(name)

    def _last(self, name: str) -> int:
        return next(told.revision for told in reversed(self.told) if told.name == name)

    async def _step_reached(self, which: int, name: str, wanted: list[str], step: int) -> int:
        """The next step to do, as the server that answers first knows it. A deletion that was carried out is done."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                try:
                    async with self.sessions.of(which).get(f"{PATH}/{name}") as answer:
                        found = orjson.loads(await answer.read())
                        if answer.status == 404:
                            return 0 if step == 0 else len(wanted) + 1
                        if answer.status == 200:
                            return wanted.index(found["data"]["text"]) + 1
                        assert answer.status == 503, found
                except UNREACHABLE:
                    which += 1
                await asyncio.sleep(AGAIN_S)


@dataclass
class Segment:
    """What a watcher saw from a list to the next: the list, and each event (type, name, revision)."""

    revision: int
    listed: dict[str, str]
    events: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def seen(self) -> int:
        return self.events[-1][2] if self.events else self.revision


@dataclass
class Watcher:
    sessions: Sessions
    which: int
    segments: list[Segment] = field(default_factory=list)
    resumed: int = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if not self.segments:
                    await self._list()
                await self._follow()
            except UNREACHABLE:
                self.which += 1
                await asyncio.sleep(AGAIN_S)

    async def _list(self) -> None:
        async with self.sessions.of(self.which).get(PATH) as answer:
            if answer.status != 200:
                raise ConnectionError(answer.status)
            found = orjson.loads(await answer.read())
        listed = {item["metadata"]["name"]: (item.get("data") or {}).get("text", "") for item in found["items"]}
        self.segments.append(Segment(int(found["metadata"]["resourceVersion"]), listed))

    async def _follow(self) -> None:
        segment = self.segments[-1]
        query = {"watch": "true", "resourceVersion": str(segment.seen)}
        async with self.sessions.of(self.which).get(PATH, params=query) as answer:
            if answer.status != 200:
                raise ConnectionError(answer.status)
            self.resumed += 1
            buffer = b""
            async for piece in answer.content.iter_any():
                *lines, buffer = (buffer + piece).split(b"\n")
                for line in lines:
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        assert event["object"]["code"] == 410, event
                        await self._list()
                        return
                    metadata = event["object"]["metadata"]
                    segment.events.append((event["type"], metadata["name"], int(metadata["resourceVersion"])))


@dataclass
class Log:
    """The store's history: (revision, key, value), a deletion has None."""

    entries: list[tuple[int, str, bytes | None]] = field(default_factory=list)
    read_to: int = 1

    async def read(self, store: Store) -> None:
        while page := await store.history("", after=self.read_to, limit=HISTORY_PAGE):
            self.entries += [(event.revision, event.key, event.value) for event in page]
            self.read_to = page[-1].revision

    def revisions(self) -> list[int]:
        return [revision for revision, _, _ in self.entries]

    def events(self) -> list[tuple[str, str, int, str]]:
        """Of the objects that are written and watched: (type, name, revision, text)."""
        there: set[str] = set()
        found = []
        for revision, key, value in self.entries:
            if not key.startswith(PREFIX):
                continue
            name = key.removeprefix(PREFIX)
            text = (orjson.loads(value).get("data") or {}).get("text", "") if value is not None else ""
            kind = "DELETED" if value is None else "MODIFIED" if name in there else "ADDED"
            there.discard(name) if value is None else there.add(name)
            found.append((kind, name, revision, text))
        return found


def judge(log: Log, told: list[Acknowledged], watchers: list[Watcher]) -> None:
    events = log.events()
    assert all(one < next_one for (_, _, one, _), (_, _, next_one, _) in pairwise(events))
    written = {(name, revision): text for kind, name, revision, text in events if kind != "DELETED"}
    deleted = {name: revision for kind, name, revision, _ in events if kind == "DELETED"}
    revisions = [one.revision for one in told if one.text is not None]
    assert len(set(revisions)) == len(revisions)
    for one in told:
        if one.text is not None:
            assert written.get((one.name, one.revision)) == one.text, one
        else:
            assert deleted.get(one.name, 0) > one.revision, one
    for watcher in watchers:
        for segment in watcher.segments:
            assert segment.listed == _state(events, segment.revision)
            upto = segment.seen
            wanted = [(kind, name, at) for kind, name, at, _ in events if segment.revision < at <= upto]
            assert segment.events == wanted
        assert watcher.segments[-1].seen == events[-1][2]


def _state(events: list[tuple[str, str, int, str]], revision: int) -> dict[str, str]:
    state: dict[str, str] = {}
    for kind, name, at, text in events:
        if at > revision:
            break
        if kind == "DELETED":
            del state[name]
        else:
            state[name] = text
    return state


async def all_seen(watchers: list[Watcher], session: aiohttp.ClientSession) -> None:
    """One more write, and every watcher has come to it."""
    body = {"metadata": {"name": "last"}, "data": {"text": "last"}}
    async with session.post(PATH, json=body) as answer:
        assert answer.status == 201
        last = int((await answer.json())["metadata"]["resourceVersion"])
    async with asyncio.timeout(LIMIT_S):
        while not all(watcher.segments and watcher.segments[-1].seen == last for watcher in watchers):
            await asyncio.sleep(AGAIN_S)


async def killed_at(random: Random, writers: Writers, count: int, kills: int) -> Any:
    """After each of `kills` random numbers of acknowledged writes."""
    for wanted in sorted(random.sample(range(count // 20, count - count // 20), kills)):
        while len(writers.told) < wanted and writers.left > 0:
            await asyncio.sleep(0.001)
        yield wanted
