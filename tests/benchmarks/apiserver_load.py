"""Load on a running API server, by hand: creates, patches, applies, lists, a watch fan-out, deletecollection.

    python -m tests.benchmarks.apiserver_load KUBECONFIG [--count 2000] [--watchers 100]

The client is as thin as it can be (prebuilt bytes on uvloop, content-length only), since it shares the machine with the
server. Compare with upstream's figures by running the same against kube-apiserver on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import ssl
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from orchestrator.client.kubeconfig import load
from orchestrator.client.network import tls_context

NAMESPACE = "bench"
PADDING = "some value of an environment variable"


def pod(name: str) -> dict[str, Any]:
    """A Pod of 2 KB."""
    env = [{"name": f"VARIABLE_{number}", "value": PADDING} for number in range(16)]
    container = {
        "name": "c",
        "image": "nginx:1.25",
        "env": env,
        "ports": [{"containerPort": 80}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 80}},
    }
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app": "web", "name": name}}
    spec = {"containers": [container], "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@dataclass
class Target:
    host: str
    port: int
    tls: ssl.SSLContext | None

    token: str = ""

    async def connect(self) -> Connection:
        reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.tls, limit=64 << 20)
        return Connection(self, reader, writer)

    def head(self, method: str, path: str, size: int = 0, content_type: str = "application/json") -> bytes:
        fields = [f"{method} {path} HTTP/1.1", "host: bench", f"content-type: {content_type}", "user-agent: bench/1"]
        if self.token:
            fields.append(f"authorization: Bearer {self.token}")
        return "\r\n".join([*fields, f"content-length: {size}", "", ""]).encode()


class Connection:
    def __init__(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._target, self._reader, self._writer = target, reader, writer

    def send(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> None:
        self._writer.write(self._target.head(method, path, len(body), content_type) + body)

    async def head(self) -> tuple[int, bytes]:
        head = await self._reader.readuntil(b"\r\n\r\n")
        return int(head[9:12]), head.lower()

    async def request(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
        self.send(method, path, body, content_type)
        status, head = await self.head()
        if b"transfer-encoding: chunked" in head:
            answer = b"".join([chunk async for chunk in self.lines()])
            await self._reader.readexactly(2)
        else:
            size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            answer = await self._reader.readexactly(size)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer[:300]!r}")
        return answer

    async def lines(self) -> Any:
        """The payload of a chunked answer, chunk by chunk."""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]

    def close(self) -> None:
        self._writer.close()


async def prepared(connection: Connection) -> None:
    """The namespace that everything is made in, and the account that its Pods have."""
    await connection.request("POST", "/api/v1/namespaces", json.dumps({"metadata": {"name": NAMESPACE}}).encode())
    account = json.dumps({"metadata": {"name": "default"}}).encode()
    await connection.request("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", account)


async def timed(name: str, target: Target, clients: int, requests: list[tuple[str, str, bytes, str]]) -> None:
    """`clients` connections work the requests off; prints rate and latency."""
    start = time.perf_counter()
    latencies = await worked_off(target, clients, requests)
    show(name, len(requests), time.perf_counter() - start, latencies)


async def worked_off(target: Target, clients: int, requests: list[tuple[str, str, bytes, str]]) -> list[float]:
    """How long each request took, in seconds."""
    latencies: list[float] = []
    waiting = list(reversed(requests))

    async def client() -> None:
        connection = await target.connect()
        while waiting:
            method, path, body, content_type = waiting.pop()
            start = time.perf_counter()
            await connection.request(method, path, body, content_type)
            latencies.append(time.perf_counter() - start)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return latencies


def show(name: str, count: int, took_s: float, latencies: list[float]) -> None:
    cuts = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else latencies * 99
    print(
        f"{name:34} {count / took_s:9.0f}/s   p50 {cuts[49] * 1e3:7.2f} ms   p99 {cuts[98] * 1e3:7.2f} ms", flush=True
    )


PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
CONFIGMAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"


class _Events(asyncio.Protocol):
    """One watcher, as cheap as can be: looks for where events begin and for the name that comes next, nothing else."""

    BEGIN, NAME, END = b'{"type":"ADDED"', b'"name":"', b"\r\n0\r\n\r\n"

    def __init__(self, head: bytes, count: int, seen: Callable[[bytes, float], None]) -> None:
        self._head, self._left, self._seen = head, count, seen
        self._rest = b""
        loop = asyncio.get_running_loop()
        self.watches: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[int] = loop.create_future()  # how many events it was not sent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self.watches.done():
            if not data.startswith(b"HTTP/1.1 200"):
                self.watches.set_exception(RuntimeError(f"no watch: {data[:300]!r}"))
                return
            self.watches.set_result(None)
        data = self._rest + data
        place = 0
        while (begin := data.find(self.BEGIN, place)) >= 0:
            name = data.find(self.NAME, begin) + len(self.NAME)
            end = data.find(b'"', name)
            if name < len(self.NAME) or end < 0:
                self._rest = data[begin:]
                return
            self._seen(data[name:end], now)
            self._left -= 1
            place = end
        self._rest = data[max(place, len(data) - len(self.BEGIN) + 1) :]
        if (self._left <= 0 or data.endswith(self.END)) and not self.done.done():
            self.done.set_result(max(self._left, 0))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.watches, self.done):
            if not future.done():
                future.set_exception(ConnectionError(f"a watch was cut off, {self._left} events before its end: {exc}"))


async def watching(target: Target, watchers: int, count: int) -> tuple[float, list[float]]:
    """Creates by 16 clients while `watchers` watch: (events that arrived a second, from when all watch; seconds from
    each create's start to each event's arrival). A server may cut off a watcher that it finds slow."""
    sent: dict[bytes, float] = {}
    latencies: list[float] = []

    def seen(name: bytes, now: float) -> None:
        latencies.append(now - sent[name])

    head = target.head("GET", f"{PODS}?watch=true&resourceVersion=0&labelSelector=watched")
    loop = asyncio.get_running_loop()
    protocols = []
    for _ in range(watchers):
        make = partial(_Events, head, count, seen)
        _, protocol = await loop.create_connection(make, target.host, target.port, ssl=target.tls)
        await protocol.watches
        protocols.append(protocol)

    bodies = []
    for number in range(count):
        obj = pod(f"watched-{number}")
        obj["metadata"]["labels"]["watched"] = ""
        bodies.append((obj["metadata"]["name"].encode(), json.dumps(obj).encode()))

    async def create() -> None:
        connection = await target.connect()
        while bodies:
            name, body = bodies.pop()
            sent[name] = time.perf_counter()
            await connection.request("POST", PODS, body)
        connection.close()

    start = time.perf_counter()
    missed, *_ = await asyncio.gather(
        asyncio.gather(*(protocol.done for protocol in protocols)), *(create() for _ in range(16))
    )
    took_s = time.perf_counter() - start
    if cut := sum(1 for count_missed in missed if count_missed):
        print(f"{cut} of {watchers} watchers were cut off by the server, {sum(missed)} events before their end")
    return len(latencies) / took_s, latencies


def list_s(target: Target, path: str) -> tuple[float, int]:
    """(seconds from the request to the last byte of its answer, bytes), by a socket that is read into one buffer."""
    buffer = memoryview(bytearray(1 << 20))
    connection = socket.create_connection((target.host, target.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or the request waits for a late ACK
    if target.tls:
        connection = target.tls.wrap_socket(connection, server_hostname=target.host)
    with connection:
        start = time.perf_counter()
        connection.sendall(target.head("GET", path))
        got = connection.recv_into(buffer)
        answer = bytes(buffer[:got])
        while b"\r\n\r\n" not in answer:
            got = connection.recv_into(buffer)
            answer += bytes(buffer[:got])
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        sized = re.search(rb"content-length: (\d+)", head.lower())
        size, last = len(body), body[-5:]
        while size < int(sized[1]) if sized else last != b"0\r\n\r\n":
            got = connection.recv_into(buffer)
            assert got, "the answer ended early"
            size += got
            last = (last + bytes(buffer[max(got - 5, 0) : got]))[-5:]
        return time.perf_counter() - start, size


def lists(target: Target) -> None:
    for name, query in (
        ("list", ""),
        ("list resourceVersion=0", "?resourceVersion=0"),
        ("list 1 by label", "?labelSelector=name%3Dcreated-1"),
    ):
        taken = [list_s(target, PODS + query) for _ in range(7)]
        seconds = [one for one, _ in taken]
        print(f"{name:34} {taken[0][1] / 1e6:9.2f} MB   best {min(seconds) * 1e3:7.1f} ms   median "
              f"{statistics.median(seconds) * 1e3:7.1f} ms", flush=True)  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kubeconfig")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--watchers", type=int, default=100)
    arguments = parser.parse_args()
    access = load(arguments.kubeconfig)
    server = urlsplit(access.server)
    target = Target(server.hostname or "", server.port or 443, tls_context(access))
    first = await target.connect()
    await prepared(first)

    count, plain = arguments.count, "application/json"
    names = [f"created-{number}" for number in range(count)]
    await timed(
        "create pod, 16 clients", target, 16, [("POST", PODS, json.dumps(pod(n)).encode(), plain) for n in names]
    )
    label = b'{"metadata":{"labels":{"touched":"yes"}}}'
    strategic = "application/strategic-merge-patch+json"
    await timed(
        "patch label, 16 clients", target, 16, [("PATCH", f"{PODS}/{n}", label, strategic) for n in names[:2000]]
    )
    applies = []
    for number in range(2000):
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"applied-{number % 200}"}}
        obj["data"] = {f"key-{key}": f"{number} {PADDING}" for key in range(10)}
        path = f"{CONFIGMAPS}/applied-{number % 200}?fieldManager=bench"
        applies.append(("PATCH", path, json.dumps(obj).encode(), "application/apply-patch+yaml"))
    await timed("apply configmap, 16 clients", target, 16, applies)
    lists(target)
    start = time.perf_counter()
    _, latencies = await watching(target, arguments.watchers, 500)
    show(f"watch {arguments.watchers} x 500", len(latencies), time.perf_counter() - start, latencies)
    start = time.perf_counter()
    await first.request("DELETE", PODS)
    print(f"{'deletecollection':34} {time.perf_counter() - start:9.2f} s for {count + 500} pods")


if __name__ == "__main__":
    uvloop.run(main())
