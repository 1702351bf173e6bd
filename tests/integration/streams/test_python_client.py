"""The official Python client, unmodified: v4 channels for exec, and its own port-forward."""

import asyncio

import pytest
from kubernetes import client, config
from kubernetes.stream import portforward, stream

from tests.integration.streams.harness import Streams

pytestmark = pytest.mark.asyncio(loop_scope="module")


def api_of(streams: Streams) -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(str(streams.kubeconfig)))


async def test_exec(streams: Streams) -> None:
    def run() -> tuple[str, str, int]:
        found = stream(
            api_of(streams).connect_get_namespaced_pod_exec, "one", "default",
            command=["sh", "-c", "read line; echo got $line; echo err >&2; exit 5"],
            stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False,
        )  # fmt: skip
        found.write_stdin("hello\n")
        found.run_forever(timeout=10)
        return found.read_stdout(), found.read_stderr(), found.returncode

    assert await asyncio.to_thread(run) == ("got hello\n", "err\n", 5)


async def test_logs(streams: Streams) -> None:
    streams.log("two", "left").write_text("2023-11-14T22:13:20.5+00:00 stdout F hello\n")
    read = api_of(streams).read_namespaced_pod_log
    assert await asyncio.to_thread(read, "two", "default", container="left") == "hello\n"
    with pytest.raises(client.ApiException) as error:
        await asyncio.to_thread(read, "two", "default")
    assert error.value.status == 400
    assert "a container name must be specified for pod two, choose one of: [left right]" in error.value.body


async def test_port_forward(streams: Streams) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def ask() -> bytes:
        forward = portforward(api_of(streams).connect_get_namespaced_pod_portforward, "one", "default", ports=str(port))
        connection = forward.socket(port)
        connection.settimeout(10)
        connection.sendall(b"hello\n")
        return connection.recv(100)

    assert await asyncio.to_thread(ask) == b"HELLO\n"
    server.close()
