"""What a server writes when it starts."""

from __future__ import annotations

import pytest

from orchestrator.api.resources import CONFIGMAPS
from orchestrator.apiserver import bootstrap
from orchestrator.apiserver.bootstrap import Advertised
from tests.apiserver_fixture import Served, serving

ADVERTISED = Advertised(address="127.0.0.1", port=6443, service_ranges=("10.96.0.0/16",))
DAY_S = 86_400


async def tracked_since(served: Served, now: float) -> str:
    await bootstrap.bootstrap(served.client, served.server.lookup, ADVERTISED, {}, now)
    found = await served.client.get(CONFIGMAPS, bootstrap.TOKEN_TRACKING, "kube-system")
    return str(found["data"]["since"])


async def test_the_day_since_which_tokens_are_tracked_is_that_of_the_first_start() -> None:
    async with serving() as served:
        assert await tracked_since(served, 1_790_000_000) == "2026-09-21"
        assert await tracked_since(served, 1_790_000_000 + 5 * DAY_S) == "2026-09-21"


@pytest.mark.parametrize("wrong", ["", "yesterday", "2026-9-1", "20260901"])
async def test_a_day_that_is_none_is_written_anew(wrong: str) -> None:
    async with serving() as served:
        await tracked_since(served, 1_790_000_000)
        found = await served.client.get(CONFIGMAPS, bootstrap.TOKEN_TRACKING, "kube-system")
        await served.client.update(CONFIGMAPS, {**found, "data": {"since": wrong}})
        assert await tracked_since(served, 1_790_000_000) == "2026-09-21"
