"""Load on a running API server, by hand: creates, patches, applies, lists, a watch fan-out, deletecollection.

    python -m tests.benchmarks.apiserver_load KUBECONFIG [--count 2000] [--watchers 100]

The client is as thin as it can be (prebuilt bytes on uvloop, content-length only), since it shares the machine with the
server. Compare with upstream's figures by running the same against kube-apiserver on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import statistics
import time
from dataclasses import dataclass
from typing import Any
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

    async def connect(self) -> Connection:
        reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.tls, limit=64 << 20)
        return Connection(reader, writer)


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> None:
        head = f"{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {content_type}\r\nuser-agent: bench/1\r\n"
        self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

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


async def watching(target: Target, watchers: int, count: int) -> float:
    """Creates by 16 clients while `watchers` watch; a latency is from the create's start to the event's arrival.
    Events a second, from when all watch."""
    sent: dict[bytes, float] = {}
    latencies: list[float] = []
    connections = [await target.connect() for _ in range(watchers)]
    for connection in connections:
        connection.send("GET", f"{PODS}?watch=true&resourceVersion=0&labelSelector=watched")
        status, _ = await connection.head()
        assert status == 200

    async def follow(connection: Connection) -> None:
        seen = 0
        async for chunk in connection.lines():
            now = time.perf_counter()
            for line in chunk.splitlines():
                if line.startswith(b'{"type":"ADDED"'):
                    name = line.split(b'"name":"', 1)[1].split(b'"', 1)[0]
                    latencies.append(now - sent[name])
                    seen += 1
            if seen >= count:
                return

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
    await asyncio.gather(*(follow(connection) for connection in connections), *(create() for _ in range(16)))
    took_s = time.perf_counter() - start
    show(f"watch {watchers} x {count}", watchers * count, took_s, latencies)
    for connection in connections:
        connection.close()
    return watchers * count / took_s


async def lists(target: Target) -> None:
    connection = await target.connect()
    for name, query in (
        ("list", ""),
        ("list resourceVersion=0", "?resourceVersion=0"),
        ("list 1 by label", "?labelSelector=name%3Dcreated-1"),
    ):
        latencies = []
        for _ in range(7):
            start = time.perf_counter()
            size = len(await connection.request("GET", PODS + query))
            latencies.append(time.perf_counter() - start)
        print(f"{name:34} {size / 1e6:9.2f} MB   best {min(latencies) * 1e3:7.1f} ms   median "
              f"{statistics.median(latencies) * 1e3:7.1f} ms", flush=True)  # fmt: skip
    connection.close()


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
    await lists(target)
    await watching(target, arguments.watchers, 500)
    start = time.perf_counter()
    await first.request("DELETE", PODS)
    print(f"{'deletecollection':34} {time.perf_counter() - start:9.2f} s for {count + 500} pods")


if __name__ == "__main__":
    uvloop.run(main())
