"""A leader election while one client floods a running API server with lists, by hand.

    python -m tests.benchmarks.apiserver_flood KUBECONFIG [--connections 200] [--objects 500]

The flood is a service account's, from a process of its own; the lease is renewed as a controller of kube-system renews
it. Prints how long a renewal takes with and without the flood, the ratio of the slowest, and how many lists were served
and refused. Where nothing orders them lists come in bursts: most renewals are quick then, some wait for a whole burst.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from urllib.parse import urlsplit

from msgspec.structs import replace

from orchestrator.api.resources import (
    CLUSTERROLEBINDINGS,
    CONFIGMAPS,
    LEASES,
    NAMESPACES,
    SERVICEACCOUNTS,
)
from orchestrator.api.status import AlreadyExists
from orchestrator.client.client import Client
from orchestrator.client.kubeconfig import Access, load
from orchestrator.client.network import tls_context
from tests.benchmarks.apiserver_load import Connection, Target

NAMESPACE = "bench"
RENEWALS = 100
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/bench"


def anonymous(access: Access) -> Access:
    """The same server without a certificate, which would count before a token."""
    return replace(access, certificate=None, key=None)


class Bearer:
    """A connection of a service account; an answer of 429 is one as well."""

    def __init__(self, connection: Connection, token: str) -> None:
        self._connection, self._token = connection, token

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        head = f"{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {self._token}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._connection._writer.write(head.encode() + body)
        status, answer = await self._connection.head()
        size = int(answer.split(b"content-length: ")[1].split(b"\r\n")[0])
        return status, await self._connection._reader.readexactly(size)


async def prepared(client: Client, objects: int) -> dict[str, str]:
    """Objects to list, and the tokens of two accounts that may do anything: the flood's and the election's."""

    async def ensure(resource: object, obj: dict[str, object]) -> None:
        try:
            await client.create(resource, obj)  # type: ignore[arg-type]
        except AlreadyExists:
            return

    await ensure(NAMESPACES, {"metadata": {"name": NAMESPACE}})
    await ensure(LEASES, {"metadata": {"name": "bench", "namespace": "kube-system"}, "spec": {}})
    for number in range(objects):
        data = {"text": "x" * 4000}
        await ensure(CONFIGMAPS, {"metadata": {"name": f"c{number}", "namespace": NAMESPACE}, "data": data})
    tokens = {}
    for namespace, name in ((NAMESPACE, "flood"), ("kube-system", "elector")):
        await ensure(SERVICEACCOUNTS, {"metadata": {"name": name, "namespace": namespace}})
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        await ensure(
            CLUSTERROLEBINDINGS, {"metadata": {"name": f"bench-{name}"}, "subjects": [subject], "roleRef": role}
        )
        made = await client.create(SERVICEACCOUNTS, {"spec": {}}, namespace, subresource="token", name=name)
        tokens[name] = made["status"]["token"]
    return tokens


Results = multiprocessing.Queue


def flood(target: Target, kubeconfig: str, token: str, connections: int, results: Results[dict[int, int]]) -> None:
    async def one(counts: dict[int, int]) -> None:
        bearer = Bearer(await target.connect(), token)
        while True:
            status, _ = await bearer.request("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps")
            counts[status] = counts.get(status, 0) + 1

    async def run() -> None:
        target.tls = tls_context(anonymous(load(kubeconfig)))
        counts: dict[int, int] = {}
        tasks = [asyncio.ensure_future(one(counts)) for _ in range(connections)]
        while True:
            await asyncio.wait(tasks, timeout=1)
            results.put(dict(counts))

    asyncio.run(run())


async def renewals(target: Target, token: str) -> list[float]:
    bearer = Bearer(await target.connect(), token)
    latencies = []
    for _ in range(RENEWALS):
        _, found = await bearer.request("GET", LEASE)
        lease = json.loads(found)
        lease["spec"]["leaseTransitions"] = lease["spec"].get("leaseTransitions", 0) + 1
        start = time.perf_counter()
        status, answer = await bearer.request("PUT", LEASE, json.dumps(lease).encode())
        latencies.append(time.perf_counter() - start)
        assert status == 200, answer
    return latencies


def shown(name: str, latencies: list[float]) -> float:
    cuts = statistics.quantiles(latencies, n=100)
    mean = statistics.fmean(latencies)
    print(f"{name:24} mean {mean * 1e3:8.2f} ms   p99 {cuts[98] * 1e3:8.2f} ms", flush=True)
    return cuts[98]


async def main(kubeconfig: str, connections: int, objects: int) -> None:
    access = load(kubeconfig)
    where = urlsplit(access.server)
    client = Client.from_kubeconfig(kubeconfig)
    tokens = await prepared(client, objects)
    target = Target(where.hostname or "", where.port or 443, tls_context(anonymous(access)))
    quiet = shown("renewals alone", await renewals(target, tokens["elector"]))
    results: Results[dict[int, int]] = multiprocessing.Queue()
    bare = Target(target.host, target.port, None)
    process = multiprocessing.Process(target=flood, args=(bare, kubeconfig, tokens["flood"], connections, results))
    process.start()
    results.get()  # it has begun
    try:
        flooded = shown(f"with {connections} floods", await renewals(target, tokens["elector"]))
    finally:
        process.terminate()
        process.join()
    counts: dict[int, int] = {}
    while not results.empty():
        counts = results.get()
    print(f"ratio {flooded / quiet:.1f}; lists by status: {counts}")
    await client.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kubeconfig")
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--objects", type=int, default=500)
    given = parser.parse_args()
    asyncio.run(main(given.kubeconfig, given.connections, given.objects))
