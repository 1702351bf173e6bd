"""The objects of priority and fairness are made, kept and left alone as their annotations say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.api.kinds.flowcontrol_bootstrap import AUTOUPDATE
from orchestrator.api.meta import Object
from orchestrator.api.resources import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS
from orchestrator.api.status import NotFound
from orchestrator.apiserver.fairness import upkeep
from orchestrator.apiserver.fairness.gate import Gate
from tests.apiserver_fixture import Served, serving


async def ensured(served: Served) -> None:
    await upkeep.ensure(served.client, served.server.lookup)


async def versions(served: Served) -> dict[str, str]:
    found: dict[str, str] = {}
    for resource in (FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS):
        for item in (await served.client.list(resource)).items:
            found[f"{resource.plural}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
    return found


async def test_all_are_made_once() -> None:
    async with serving() as served:
        await ensured(served)
        made = await versions(served)
        assert len(made) == 8 + 11
        await ensured(served)
        assert await versions(served) == made


async def test_a_deleted_one_comes_back_and_a_leftover_goes() -> None:
    async with serving() as served:
        await ensured(served)
        await served.client.delete(FLOWSCHEMAS, "global-default")
        level = await served.client.get(PRIORITYLEVELCONFIGURATIONS, "system")
        for name, annotations in (("old", {AUTOUPDATE: "true"}), ("kept", {AUTOUPDATE: "false"}), ("own", {})):
            await served.client.create(
                PRIORITYLEVELCONFIGURATIONS,
                {"metadata": {"name": name, "annotations": annotations}, "spec": level["spec"]},
            )
        await ensured(served)
        assert await served.client.get(FLOWSCHEMAS, "global-default")
        with pytest.raises(NotFound):
            await served.client.get(PRIORITYLEVELCONFIGURATIONS, "old")
        assert await served.client.get(PRIORITYLEVELCONFIGURATIONS, "kept")
        assert await served.client.get(PRIORITYLEVELCONFIGURATIONS, "own")


async def changed(served: Served, shares: int, annotation: str | None) -> Any:
    """The shares of a suggested level after somebody changed them, and the annotation it has then."""
    level = await served.client.get(PRIORITYLEVELCONFIGURATIONS, "system")
    level["spec"]["limited"]["nominalConcurrencyShares"] = shares
    if annotation is None:
        level["metadata"].pop("annotations", None)
    else:
        level["metadata"]["annotations"] = {AUTOUPDATE: annotation}
    await served.client.update(PRIORITYLEVELCONFIGURATIONS, level)
    await ensured(served)
    level = await served.client.get(PRIORITYLEVELCONFIGURATIONS, "system")
    return level["spec"]["limited"]["nominalConcurrencyShares"], level["metadata"]["annotations"][AUTOUPDATE]


@pytest.mark.parametrize(
    ("annotation", "after"),
    [("true", (30, "true")), ("false", (7, "false")), (None, (7, "false")), ("odd", (7, "false"))],
)
async def test_what_people_took_over_is_theirs(annotation: str | None, after: tuple[int, str]) -> None:
    async with serving() as served:
        await ensured(served)
        assert await changed(served, 7, annotation) == after


def test_an_exempt_level_may_have_shares_of_its_own() -> None:
    want = next(one for one in upkeep.MANDATORY_LEVELS if one["metadata"]["name"] == "exempt")
    spec = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 5, "lendablePercent": 50}}
    have: Object = {"metadata": {"name": "exempt", "annotations": {AUTOUPDATE: "true"}}, "spec": spec}
    assert upkeep.revision(have, want, is_mandatory=True) is None
    wrong: Object = {**have, "spec": {"type": "Limited", "limited": {}}}
    revised = upkeep.revision(wrong, want, is_mandatory=True)
    assert revised is not None and revised["spec"] == want["spec"]


async def test_each_schema_says_whether_its_level_exists() -> None:
    async with serving() as served:
        await ensured(served)
        gate = Gate(served.server.lookup, served.server.core.endpoints, 600, served.server.core.clock)
        keeping = upkeep.Upkeep(gate, served.client, served.server.lookup, served.server.core.clock)
        task = asyncio.get_running_loop().create_task(keeping.run())

        async def condition(name: str, status: str) -> Any:
            async with asyncio.timeout(10):
                while True:
                    schema = await served.client.get(FLOWSCHEMAS, name)
                    for one in (schema.get("status") or {}).get("conditions") or ():
                        if one["status"] == status:
                            return one
                    await asyncio.sleep(0.005)

        assert (await condition("system-nodes", "False"))["reason"] == "Found"
        await served.client.delete(PRIORITYLEVELCONFIGURATIONS, "system")
        lost = await condition("system-nodes", "True")
        assert (lost["type"], lost["reason"]) == ("Dangling", "NotFound")
        await ensured(served)
        assert (await condition("system-nodes", "False"))["reason"] == "Found"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
