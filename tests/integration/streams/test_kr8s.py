"""kr8s, unmodified: it asks for no subprotocol where it forwards ports."""

import asyncio

import kr8s
import pytest
from kr8s.asyncio.objects import Pod

from tests.integration.streams.harness import Streams

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:Kubernetes version .* is not supported"),
]


async def pod_of(streams: Streams) -> Pod:
    api = await kr8s.asyncio.api(kubeconfig=str(streams.kubeconfig))
    return await Pod.get("one", namespace="default", api=api)


async def test_exec(streams: Streams) -> None:
    pod = await pod_of(streams)
    done = await pod.exec(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)


async def test_logs(streams: Streams) -> None:
    streams.log("one", "main").write_text("2023-11-14T22:13:20.5+00:00 stdout F hello\n")
    pod = await pod_of(streams)
    assert [line async for line in pod.logs()] == ["hello"]


async def test_port_forward(streams: Streams) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    pod = await pod_of(streams)
    port = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(20), pod.portforward(remote_port=port, local_port="auto") as local:
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        writer.write(b"hello\n")
        assert await reader.readline() == b"HELLO\n"
        writer.close()
    server.close()
