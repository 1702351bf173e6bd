"""The socket: lines in, lines out, descriptors along, and failures as answers."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.porter.server import Server
from orchestrator.porter.verbs import Answer, PodArguments, PorterError, Verb


async def echo(wish: PodArguments) -> Answer:
    return Answer({"uid": wish.uid})


async def fail(wish: PodArguments) -> Answer:
    raise PorterError("no")


async def give(wish: PodArguments) -> Answer:
    read, write = os.pipe()
    os.write(write, b"through")
    os.close(write)
    return Answer({}, (read,))


VERBS = {name: Verb(PodArguments, act) for name, act in {"echo": echo, "fail": fail, "give": give}.items()}


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    server = Server(tmp_path / "p.sock", VERBS, frozenset({os.getuid()}), os.getgid())
    task = asyncio.create_task(server.serve())
    while not (tmp_path / "p.sock").exists():
        await asyncio.sleep(0)
    yield tmp_path / "p.sock"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not (tmp_path / "p.sock").exists()


async def ask(path: Path, *lines: Any) -> list[dict[str, Any]]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    for line in lines:
        writer.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
    found = [json.loads(await reader.readline()) for _ in lines]
    writer.close()
    return found


async def test_answers_come_in_order(path: Path) -> None:
    answers = await ask(
        path,
        {"verb": "echo", "uid": "a"},
        {"verb": "fail", "uid": "a"},
        {"verb": "unheard", "uid": "a"},
        b"not json",
        {"verb": "echo"},
        {"verb": "echo", "uid": "b"},
    )
    assert [answer["ok"] for answer in answers] == [True, False, False, False, False, True]
    assert answers[1]["error"] == "no"
    assert "unknown verb 'unheard'" in answers[2]["error"]
    assert answers[5]["result"] == {"uid": "b"}


async def test_a_descriptor_travels_with_the_answer(path: Path) -> None:
    def exchange() -> tuple[bytes, list[int]]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b'{"verb": "give", "uid": "a"}\n')
            data, descriptors, _, _ = socket.recv_fds(connection, 1, 4)
            while not data.endswith(b"\n"):
                data += connection.recv(1024)
            return data, descriptors

    data, (descriptor,) = await asyncio.to_thread(exchange)
    assert json.loads(data) == {"ok": True, "result": {}}
    assert os.read(descriptor, 100) == b"through"
    os.close(descriptor)


async def test_a_stranger_is_hung_up_on(tmp_path: Path) -> None:
    server = Server(tmp_path / "p.sock", VERBS, frozenset({os.getuid() + 1}), os.getgid())
    task = asyncio.create_task(server.serve())
    while not (tmp_path / "p.sock").exists():
        await asyncio.sleep(0)
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "p.sock"))
    writer.write(b'{"verb": "echo", "uid": "a"}\n')
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
