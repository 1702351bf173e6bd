"""The local lab's machines, as a supervisor's answers tell of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cloud.local import LocalConfig, LocalInstances
from orchestrator.cloud.provider import CloudError

ADDRESSES = ["172.29.0.11", "fd00:172:29::b"]


def node(pid: int = 7, *, wanted: bool = True) -> dict[str, Any]:
    return {"pid": pid, "wanted": wanted, "addresses": ADDRESSES}


@asynccontextmanager
async def supervisor(folder: Path, answer: Any) -> AsyncIterator[LocalInstances]:
    place = folder / "control.sock"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(await reader.readline())
        assert asked == {"verb": "status"}
        writer.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode() + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(handle, place)
    async with server:
        yield LocalInstances("lab", LocalConfig(control_socket=str(place), zones={"worker-2": "b"}))


@pytest.mark.parametrize(
    ("seen", "is_shut_down"),
    [
        pytest.param(node(), False, id="runs"),
        pytest.param(node(0, wanted=False), True, id="switched-off"),
        pytest.param(node(0), False, id="died-and-starts-again"),
        pytest.param(node(7, wanted=False), False, id="is-being-switched-off"),
    ],
)
async def test_a_node(tmp_path: Path, seen: dict[str, Any], is_shut_down: bool) -> None:
    async with supervisor(tmp_path, {"ok": True, "result": {"nodes": {"worker-1": seen}}}) as instances:
        found = await instances.get("worker-1", "")
        assert found is not None
        assert found.is_shut_down is is_shut_down
        assert found.provider_id == "sampan://lab/worker-1"
        assert found.addresses == (("InternalIP", ADDRESSES[0]), ("InternalIP", ADDRESSES[1]))
        assert (found.region, found.zone) == ("local", "local-a")


async def test_a_node_that_the_supervisor_does_not_know_is_gone(tmp_path: Path) -> None:
    async with supervisor(tmp_path, {"ok": True, "result": {"nodes": {"worker-2": node()}}}) as instances:
        assert await instances.get("worker-1", "sampan://lab/worker-1") is None
        other = await instances.get("anything", "sampan://lab/worker-2")
        assert other is not None and other.zone == "b"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param({"ok": False, "error": "unknown verb"}, "refuses status: unknown verb", id="refuses"),
        pytest.param(b"", "does not answer", id="hangs-up"),
        pytest.param(b"what?\n", "does not answer", id="speaks-otherwise"),
    ],
)
async def test_a_supervisor_that_does_not_answer_proves_nothing(tmp_path: Path, answer: Any, message: str) -> None:
    async with supervisor(tmp_path, answer) as instances:
        with pytest.raises(CloudError, match=message):
            await instances.get("worker-1", "")


async def test_no_supervisor_at_all(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match=r"control\.sock"):
        await LocalInstances("lab", LocalConfig(control_socket=str(tmp_path / "control.sock"))).get("worker-1", "")


async def test_a_machine_of_another_lab_is_not_ours_to_judge(tmp_path: Path) -> None:
    async with supervisor(tmp_path, {"ok": True, "result": {"nodes": {}}}) as instances:
        with pytest.raises(CloudError, match="is not of lab lab"):
            await instances.get("worker-1", "sampan://other/worker-1")
