"""Streams by bare WebSockets, with every subprotocol that kube-apiserver and the kubelet know."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.integration.streams.harness import Streams

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXEC = "exec?command=sh&command=-c&stdout=1&stderr=1&command="
SUCCESS = {"metadata": {}, "status": "Success"}
V4 = ("v5.channel.k8s.io", "v4.channel.k8s.io")


@asynccontextmanager
async def opened(
    streams: Streams, path: str, protocols: Sequence[str]
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    trusted = ssl.create_default_context(cafile=str(streams.pki / "ca.crt"))
    trusted.load_cert_chain(streams.pki / "admin.crt", streams.pki / "admin.key")
    url = f"{streams.server}/api/v1/namespaces/default/pods/{path}"
    async with (
        aiohttp.ClientSession() as session,
        asyncio.timeout(30),
        session.ws_connect(url, ssl=trusted, protocols=protocols) as socket,
    ):
        yield socket


async def messages(streams: Streams, path: str, *protocols: str) -> list[bytes | str]:
    """All that is sent until the other end closes."""
    async with opened(streams, path, protocols) as socket:
        assert socket.protocol == (protocols[0] if protocols else None)
        return [message.data async for message in socket]


@pytest.mark.parametrize("protocol", V4)
async def test_a_status_ends_a_command(streams: Streams, protocol: str) -> None:
    greeting, output, end = await messages(streams, f"one/{EXEC}echo+hello", protocol)
    assert (greeting, output) == (b"\x01", b"\x01hello\n")
    assert isinstance(end, bytes) and end[:1] == b"\x03" and json.loads(end[1:]) == SUCCESS


@pytest.mark.parametrize("protocols", [("channel.k8s.io",), ()])
async def test_before_v4_only_a_failure_has_words(streams: Streams, protocols: tuple[str, ...]) -> None:
    assert await messages(streams, f"one/{EXEC}echo+hello", *protocols) == [b"\x01", b"\x01hello\n"]
    failed = await messages(streams, f"one/{EXEC}exit+3", *protocols)
    assert failed == [b"\x01", b"\x03command terminated with non-zero exit code: exit status 3"]


async def test_base64_is_text(streams: Streams) -> None:
    hello = base64.b64encode(b"hello\n").decode()
    assert await messages(streams, f"one/{EXEC}echo+hello", "base64.channel.k8s.io") == ["1", f"1{hello}"]
    _, _, end = await messages(streams, f"one/{EXEC}echo+hello", "v4.base64.channel.k8s.io")
    assert isinstance(end, str) and end[:1] == "3" and json.loads(base64.b64decode(end[1:])) == SUCCESS


async def test_base64_input(streams: Streams) -> None:
    path = f"one/{EXEC}read+line;+echo+got+$line&stdin=1"
    async with opened(streams, path, ["base64.channel.k8s.io"]) as socket:
        await socket.send_str("0" + base64.b64encode(b"it\n").decode())
        received = [message.data async for message in socket]
    assert received == ["1", "1" + base64.b64encode(b"got it\n").decode()]


async def test_a_log_is_sent_in_messages(streams: Streams) -> None:
    streams.log("two", "left").write_text("2023-11-14T22:13:20.5+00:00 stdout F hello\n")
    path = "two/log?container=left"
    for protocols in (("binary.k8s.io",), ()):
        greeting, *rest = await messages(streams, path, *protocols)
        assert greeting == b""
        assert b"".join(piece for piece in rest if isinstance(piece, bytes)) == b"hello\n"
    encoded = await messages(streams, path, "base64.binary.k8s.io")
    assert encoded[0] == "" and base64.b64decode("".join(map(str, encoded))) == b"hello\n"


async def test_a_log_that_is_followed(streams: Streams) -> None:
    file = streams.log("two", "left")
    file.write_text("2023-11-14T22:13:20.5+00:00 stdout F first\n")
    async with opened(streams, "two/log?container=left&follow=1", ["binary.k8s.io"]) as socket:
        assert (await socket.receive()).data == b""
        assert (await socket.receive()).data == b"first\n"
        with file.open("a") as more:
            more.write("2023-11-14T22:13:21.5+00:00 stdout F second\n")
        assert (await socket.receive()).data == b"second\n"


@pytest.mark.parametrize("path", [f"one/{EXEC}true", "two/log?container=left"])
async def test_a_subprotocol_that_nobody_knows(streams: Streams, path: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await messages(streams, path, "mqtt")
    assert error.value.status == 403
