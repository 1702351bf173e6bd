"""One API server and then two on one etcd: what the second adds, on one machine in one run, by hand.

    python -m tests.benchmarks.apiserver_scaling [--rounds 3] [--count 2000]

Clients are spread evenly over the servers: creates of Pods by 16 connections, GETs of one Pod by wrk. The load and etcd
share the machine's processors with the servers, so on two of them the second server has no processor to itself: the
ratio says how much of one that leaves it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from infra import pki
from infra.topology import Topology
from tests.benchmarks import apiserver_load as load
from tests.benchmarks.apiserver_beside import (
    GET_S,
    TOKEN,
    Figures,
    Running,
    etcd_started,
    gets_words,
    ready,
    requests_per_s,
    spawn,
    token_target,
)  # fmt: skip
from tests.benchmarks.apiserver_load import PODS, pod
from tests.whole_server import free_port

PROGRAM = """
import sys
from pathlib import Path
import uvloop
from orchestrator.apiserver.main import run
from tests.whole_server import settings
folder = Path(sys.argv[1])
access = {"token_auth_file": str(folder / "tokens.csv")}
uvloop.run(run(settings(folder, int(sys.argv[2]), access, etcd_servers=(sys.argv[3],))))
"""


async def started(folder: Path, count: int) -> list[Running]:
    """etcd first in the list of processes of the first."""
    etcd, url = await etcd_started(folder)
    servers = []
    for number in range(count):
        port, began = free_port(), time.perf_counter()
        process = spawn(folder, f"server-{number}", sys.executable, "-c", PROGRAM, str(folder), str(port), url)
        servers.append(Running(port, [*([] if servers else [etcd]), process], await ready(port, began)))
    return servers


async def measure(servers: list[Running], figures: Figures, count: int) -> None:
    targets = [token_target(server.port) for server in servers]
    first = await targets[0].connect()
    await load.prepared(first)
    creates = [("POST", PODS, json.dumps(pod(f"created-{n}")).encode(), "application/json") for n in range(count)]
    start = time.perf_counter()
    shares = [creates[place :: len(targets)] for place in range(len(targets))]
    each = 16 // len(targets)
    await asyncio.gather(*(load.worked_off(target, each, share) for target, share in zip(targets, shares, strict=True)))
    figures.add("create pod, 16 clients, /s", count / (time.perf_counter() - start))
    figures.add("GET one pod over TLS, 32 connections, /s", await _gets(servers, 32 // len(servers)))
    first.close()


async def _gets(servers: list[Running], connections: int) -> float:
    running = [
        await asyncio.create_subprocess_exec(*gets_words(server.port, connections), stdout=asyncio.subprocess.PIPE)
        for server in servers
    ]
    told = await asyncio.gather(*(process.communicate() for process in running))
    return sum(requests_per_s(output.decode()) for output, _ in told)


async def main(rounds: int, count: int) -> None:
    found = {1: Figures(), 2: Figures()}
    for number in range(rounds):
        for servers, figures in found.items():
            with TemporaryDirectory() as place:
                folder = Path(place)
                pki.ensure(folder / "pki", Topology(name="test", workers=0))
                (folder / "tokens.csv").write_text(f'{TOKEN},admin,1,"system:masters"\n')
                running = await started(folder, servers)
                try:
                    await measure(running, figures, count)
                finally:
                    for server in running[::-1]:
                        server.stop()
            print(f"round {number + 1} with {servers} done (GETs for {GET_S} s)", flush=True)
    print(f"{'':44} {'one':>10} {'two':>10}  two/one")
    for row, values in found[1].rows.items():
        one, two = statistics.median(values), statistics.median(found[2].rows[row])
        print(f"{row:44} {one:10.1f} {two:10.1f}  {two / one:6.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=2000)
    arguments = parser.parse_args()
    uvloop.run(main(arguments.rounds, arguments.count))
