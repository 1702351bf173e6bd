"""The figures of a whole lab: time to up and down, a pod from create to Running, memory a process.

    python -m tests.benchmarks.lab [PODS]

Run by hand on a machine with the node image built. Prints seconds (minimum, median, maximum of the runs) and MB of PSS.
Targets: up ≤ 5 s, down ≤ 2 s, pod ≤ 1 s, snapshot and restore ≤ 2 s, the control plane as one process ≤ 130 MB.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestrator.api import meta
from orchestrator.api.resources import PODS
from orchestrator.client.client import Client

SAMPAN = str(Path(__file__).resolve().parents[2] / "sampan")
NAME = "bench"
RUNS = 3


def sampan(*args: str) -> float:
    """The lab's name comes right after the command and its verb."""
    start = time.monotonic()
    words = 2 if args[0] == "snapshot" else 1
    subprocess.run([SAMPAN, *args[:words], "--name", NAME, *args[words:]], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def show(what: str, values: list[float]) -> None:
    print(f"{what:42} {min(values):7.2f} {statistics.median(values):7.2f} {max(values):7.2f}")


@asynccontextmanager
async def connected(kubeconfig: str) -> AsyncIterator[Client]:
    client = Client.from_kubeconfig(kubeconfig, user_agent="bench")
    try:
        yield client
    finally:
        await client.close()


async def one_pod(client: Client, number: int) -> float:
    """Seconds from the create to the watch event that says Running."""
    spec = {"containers": [{"name": "c", "image": "sampan.local/pause:1"}], "terminationGracePeriodSeconds": 0}
    name = f"bench-{number}"
    start = time.monotonic()
    made = await client.create(PODS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    selector = f"metadata.name={name}"
    watch = client.watch(PODS, "default", resource_version=meta.resource_version(made), field_selector=selector)
    async with aclosing(watch) as events:  # type: ignore[type-var]
        async for event in events:
            if event.object["status"].get("phase") == "Running":
                break
    return time.monotonic() - start


async def pods(kubeconfig: str, count: int) -> list[float]:
    async with connected(kubeconfig) as client:
        return [await one_pod(client, number) for number in range(count)]


def pss_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with TemporaryDirectory() as folder:
        kubeconfig = f"{folder}/kubeconfig"
        ups, downs = [], []
        for run in range(RUNS):
            ups.append(sampan("up", "--kubeconfig", kubeconfig))
            if run < RUNS - 1:
                downs.append(sampan("down"))
        try:
            show("up, 1 + 2 nodes, seconds", ups)
            show(f"pod, create to Running, {count} pods", asyncio.run(pods(kubeconfig, count)))
            names = [f"bench-{run}" for run in range(RUNS)]
            show(f"snapshot save with {count} pods, seconds", [sampan("snapshot", "save", name) for name in names])
            restores = [sampan("snapshot", "restore", name) for name in names]
            show("restore until all pods serve, seconds", restores)
            status = subprocess.run([SAMPAN, "status", "--name", NAME, "-o", "json"], check=True, capture_output=True)
            for component in json.loads(status.stdout)["components"]:
                where = f"{component['name']} on {component['node']}, MB PSS"
                show(where, [pss_mb(component["pid"])])
        finally:
            downs.append(sampan("down"))
        show("down, seconds", downs)


if __name__ == "__main__":
    main()
