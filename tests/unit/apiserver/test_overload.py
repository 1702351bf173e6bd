"""More writes at once than the server takes: the rest are told when to come back, reads go on."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.apiserver import server
from orchestrator.apiserver.handlers import Tables
from orchestrator.apiserver.request import Attributes
from tests.apiserver_fixture import serving
from tests.unit.apiserver.rest import CONFIGMAPS, call, configmap, send


class Held:
    """A strategy that keeps writes waiting until they are let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    async def before_write(self, attributes: Attributes) -> None:
        await self.let_go.wait()

    async def after_write(self, attributes: Attributes, *, succeeded: bool) -> None: ...


async def test_writes_over_the_limit_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "WRITES_MAX", 2)
    held = Held()
    async with serving(tables=Tables(strategies={"configmaps": held})) as served:
        writes = [asyncio.ensure_future(send(served, "POST", CONFIGMAPS, configmap(f"c{n}"))) for n in range(3)]
        await asyncio.wait([writes[2]], timeout=5)
        refused = writes[2].result()
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert (await call(served, "GET", CONFIGMAPS))[0] == 200
        held.let_go.set()
        assert [(await write).status for write in writes[:2]] == [201, 201]
        assert (await call(served, "POST", CONFIGMAPS, configmap("later")))[0] == 201
