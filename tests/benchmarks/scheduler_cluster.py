"""The scheduler against a real API server over TLS: Pods bound in a second, and the scheduler's memory.

`python -m tests.benchmarks.scheduler_cluster [NODES [PODS]]`. API server (SQLite, authorization, admission) and
scheduler are processes of their own; Pods are created first, while no scheduler runs, then it starts. Upstream binds
520 Pods/s on a quiet machine of two cores with 1,000 nodes and 5,000 Pods, against kube-apiserver.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from orchestrator.api.resources import NODES, PODS, SERVICEACCOUNTS
from orchestrator.client.client import Client
from tests.benchmarks.scheduler_decisions import node, pod

SCHEDULER = """
import sys, uvloop
from orchestrator.scheduler.main import Config, run
uvloop.run(run(Config(kubeconfig=sys.argv[1], seed=1)))
"""
SERVER = """
import asyncio, sys, uvloop
from pathlib import Path
from tests.whole_server import whole_server
async def main():
    async with whole_server(Path(sys.argv[1])) as server:
        print(server.kubeconfig("admin"), server.kubeconfig("scheduler"), flush=True)
        await asyncio.get_running_loop().create_future()
uvloop.run(main())
"""


async def create_all(client: Client, nodes: int, pods: int) -> None:
    await client.create(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
    gate = asyncio.Semaphore(16)

    async def create_node(index: int) -> None:
        made = node(index)
        async with gate:
            created = await client.create(NODES, made)
            await client.update(NODES, created | {"status": made["status"]}, subresource="status")
            await client.patch(NODES, made["metadata"]["name"], "", {"spec": {"taints": None}})

    async def create_pod(index: int) -> None:
        async with gate:
            await client.create(PODS, pod(index, "plain") | {"status": {}})

    await asyncio.gather(*(create_node(index) for index in range(nodes)))
    await asyncio.gather(*(create_pod(index) for index in range(pods)))


async def bound(client: Client, pods: int) -> tuple[float, float]:
    """(time of the first binding, time of the last) as a watch sees them."""
    first = last = 0.0
    names: set[str] = set()
    listed = await client.list(PODS, "default")
    async for event in client.watch(PODS, "default", resource_version=listed.resource_version):
        if event.object["spec"].get("nodeName") and event.object["metadata"]["name"] not in names:
            names.add(event.object["metadata"]["name"])
            last = time.perf_counter()
            first = first or last
            if len(names) == pods:
                break
    return first, last


def pss_mib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) // 1024


async def main() -> None:
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    pods = int(sys.argv[2]) if len(sys.argv) > 2 else 5_000
    pipe = asyncio.subprocess.PIPE
    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, folder, stdout=pipe)
        assert server.stdout is not None
        admin, scheduler_config = (await server.stdout.readline()).decode().split()
        client = Client.from_kubeconfig(admin)
        began = time.perf_counter()
        await create_all(client, nodes, pods)
        created_s = time.perf_counter() - began
        watching = asyncio.create_task(bound(client, pods))
        await asyncio.sleep(0.5)
        began = time.perf_counter()
        scheduler = await asyncio.create_subprocess_exec(sys.executable, "-c", SCHEDULER, scheduler_config)
        first, last = await asyncio.wait_for(watching, 300)
        result: dict[str, Any] = {
            "nodes": nodes,
            "pods": pods,
            "pods_bound_per_s": round(pods / (last - first)),
            "start_to_first_binding_s": round(first - began, 2),
            "scheduler_pss_mib": pss_mib(scheduler.pid),
            "created_in_s": round(created_s, 1),
        }
        print(json.dumps(result))
        for process in (scheduler, server):
            process.terminate()
            await process.wait()
        await client.close()


if __name__ == "__main__":
    asyncio.run(main())
