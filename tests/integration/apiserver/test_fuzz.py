"""Random requests: never an internal error, never an exception, memory in bounds, and the server goes on serving."""

from __future__ import annotations

import pytest

from orchestrator.api.resources import CONFIGMAPS
from tests.fuzz import campaign
from tests.whole_server import WholeServer

GROWN_MIB_MAX = 150  # caches of schemas, rules and requests fill; what was made is deleted and compacted away


@pytest.mark.parametrize(("count", "seed"), [
    pytest.param(4_000, 1, id="4000"),
    pytest.param(100_000, 2, id="100000", marks=[pytest.mark.wide, pytest.mark.timeout(3600)]),
])  # fmt: skip
async def test_random_requests(count: int, seed: int, server: WholeServer) -> None:
    outcome = await campaign.run(server, count, seed)
    assert not outcome.faults
    assert sum(outcome.codes.values()) == count
    assert {200, 201, 400, 401, 403, 404, 405, 406, 409, 415, 422} <= outcome.codes.keys()  # the inputs reach far
    assert outcome.grown_mib < GROWN_MIB_MAX
    await server.admin.create(CONFIGMAPS, {"metadata": {"name": "after", "namespace": "default"}})
    found = await server.admin.list(CONFIGMAPS, "default")
    assert "after" in [item["metadata"]["name"] for item in found.items]
