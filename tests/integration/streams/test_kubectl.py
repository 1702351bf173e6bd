"""kubectl, unmodified, over every way that it has to a stream: WebSocket, SPDY in a WebSocket, SPDY alone."""

import asyncio
import os
import ssl
from typing import Any

import aiohttp
import pytest

from tests.integration.streams.harness import Streams

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEBSOCKET: dict[str, str] = {}
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
ways = pytest.mark.parametrize("way", [pytest.param(WEBSOCKET, id="websocket"), pytest.param(SPDY, id="spdy")])


@ways
async def test_exec_carries_output_errors_and_the_exit_code(streams: Streams, way: dict[str, str]) -> None:
    code, out, err = await streams.kubectl(
        "exec", "one", "--", "sh", "-c", "echo out; echo err >&2; exit 3", environment=way
    )
    assert (code, out) == (3, "out\n")
    assert err.splitlines() == ["err", "command terminated with exit code 3"]


@ways
async def test_exec_ends_its_input(streams: Streams, way: dict[str, str]) -> None:
    sent = os.urandom(300_000)
    code, out, err = await streams.kubectl("exec", "-i", "one", "--", "sha256sum", stdin=sent, environment=way)
    assert (code, err) == (0, "")
    assert len(out.split()[0]) == 64
    code, out, err = await streams.kubectl("exec", "-i", "one", "--", "sh", "-c", "wc -c", stdin=sent, environment=way)
    assert out.strip() == "300000"


@ways
async def test_much_output_arrives_whole(streams: Streams, way: dict[str, str]) -> None:
    code, out, _ = await streams.kubectl("exec", "one", "--", "seq", "200000", environment=way)
    assert code == 0
    assert out.splitlines()[-1] == "200000"
    assert len(out.splitlines()) == 200000


@ways
async def test_a_command_that_is_not_there(streams: Streams, way: dict[str, str]) -> None:
    code, _, err = await streams.kubectl("exec", "one", "--", "nonesuch", environment=way)
    assert code == 1
    assert "executable file not found in $PATH" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["exec", "one", "-c", "x", "--", "true"], "container x is not valid for pod one"),
        (["exec", "nopod", "--", "true"], 'pods "nopod" not found'),
        (["exec", "waiting", "--", "true"], 'container not found ("main")'),
        (["logs", "waiting"], 'container "main" in pod "waiting" is waiting to start: ContainerCreating'),
        (["logs", "one", "--previous"], 'previous terminated container "main" in pod "one" not found'),
        (["logs", "one", "-c", "x"], "container x is not valid for pod one"),
    ],
)
async def test_what_is_not_there(streams: Streams, arguments: list[str], message: str) -> None:
    code, _, err = await streams.kubectl(*arguments)
    assert code == 1
    assert message in err


@ways
async def test_a_terminal_has_one_stream_and_a_size(streams: Streams, way: dict[str, str]) -> None:
    """`script` gives kubectl a terminal. The size comes a moment after the start, here as everywhere."""
    inside = 'until [ "$(stty size)" = "33 99" ]; do :; done; echo sized; tty >&2'
    command = f"kubectl --kubeconfig {streams.kubeconfig} exec -it one -- sh -c '{inside}'"
    made = await asyncio.create_subprocess_exec(
        "script", "-qec", f"stty rows 33 cols 99; {command}", "/dev/null",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, env=os.environ | way,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(made.communicate(), 30)
    assert b"sized" in out
    assert b"/dev/pts/" in out


@ways
async def test_attach(streams: Streams, way: dict[str, str]) -> None:
    code, out, _ = await streams.kubectl("attach", "-i", "one", stdin=b"hello\n", environment=way)
    assert (code, out) == (0, "hello\n")


async def test_cp(streams: Streams, tmp_path: Any) -> None:
    content = os.urandom(1_000_000)
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_bytes(content)
    code, _, err = await streams.kubectl("cp", str(tmp_path / "file"), f"one:{tmp_path}/there/file")
    assert code == 0, err
    assert (tmp_path / "there" / "file").read_bytes() == content
    code, _, err = await streams.kubectl("cp", f"one:{tmp_path}/there/file", str(tmp_path / "back"))
    assert code == 0, err
    assert (tmp_path / "back").read_bytes() == content


async def test_logs(streams: Streams) -> None:
    line = "2023-11-14T22:13:%02d.5+00:00 stdout F line %d\n"
    path = streams.log("one", "main")
    path.write_text("".join(line % (number, number) for number in range(5)))
    assert (await streams.kubectl("logs", "one", "--tail", "2"))[1] == "line 3\nline 4\n"
    assert (await streams.kubectl("logs", "one", "--timestamps"))[1].startswith("2023-11-14T22:13:00.5Z line 0\n")
    made = await asyncio.create_subprocess_exec(
        "kubectl", "--kubeconfig", str(streams.kubeconfig), "logs", "-f", "one", "--tail", "1",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert made.stdout is not None
    assert await asyncio.wait_for(made.stdout.readline(), 10) == b"line 4\n"
    began = asyncio.get_running_loop().time()
    with path.open("a") as file:
        file.write(line % (6, 6))
    assert await asyncio.wait_for(made.stdout.readline(), 10) == b"line 6\n"
    took = asyncio.get_running_loop().time() - began
    print(f"a followed line arrives after {took * 1000:.1f} ms")
    assert took < 0.5
    made.kill()
    await made.wait()


@ways
async def test_port_forward(streams: Streams, way: dict[str, str]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int(await reader.readline())
        writer.write(b"x" * size)
        writer.write_eof()
        await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    made = await asyncio.create_subprocess_exec(
        "kubectl", "--kubeconfig", str(streams.kubeconfig), "port-forward", "--address", "127.0.0.1", "one",
        f":{port}", ":1", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ | way,
    )  # fmt: skip
    assert made.stdout is not None
    assert made.stderr is not None
    first = (await asyncio.wait_for(made.stdout.readline(), 10)).decode()
    second = (await asyncio.wait_for(made.stdout.readline(), 10)).decode()
    local, closed = (int(text.split(":")[1].split(" ")[0]) for text in (first, second))

    async def ask(size: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        writer.write(b"%d\n" % size)
        found = await reader.read()
        writer.close()
        return len(found)

    async with asyncio.timeout(20):
        assert await asyncio.gather(*(ask(size) for size in (1, 1000, 3_000_000, 5, 200_000))) == [
            1, 1000, 3_000_000, 5, 200_000,
        ]  # fmt: skip
        reader, writer = await asyncio.open_connection("127.0.0.1", closed)
        assert await reader.read() == b""
        writer.close()
        error = b""
        while b"Connection refused" not in error:
            error = await made.stderr.readline()
    made.kill()
    await made.wait()
    server.close()


async def test_the_kubelets_own_endpoints_through_the_node_proxy(streams: Streams) -> None:
    async def raw(path: str) -> str:
        code, out, err = await streams.kubectl("get", "--raw", f"/api/v1/nodes/node-1/proxy/{path}")
        assert code == 0, err
        return out

    assert await raw("healthz") == "ok"
    assert '"kind":"PodList"' in await raw("pods")
    assert "kubelet_running_containers" in await raw("metrics")
    assert '"nodeName":"node-1"' in await raw("stats/summary")


async def test_the_kubelet_asks_who_it_does_not_know(streams: Streams) -> None:
    node = (await streams.kubectl("get", "node", "node-1", "-o", "jsonpath={.status.daemonEndpoints.*.Port}"))[1]
    url = f"https://127.0.0.1:{node}/pods"
    context = ssl.create_default_context(cafile=str(streams.pki / "ca.crt"))
    async with aiohttp.ClientSession() as session:
        async with session.get(url, ssl=context) as answer:
            assert answer.status == 401
        context.load_cert_chain(str(streams.pki / "scheduler.crt"), str(streams.pki / "scheduler.key"))
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
        assert answer.status == 403
        assert "system:kube-scheduler" in await answer.text()
