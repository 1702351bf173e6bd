"""What priority and fairness costs a request that need not wait: get, list and patch, with the gate and without.

    python -m tests.benchmarks.apiserver_fairness [--count 20000] [--rounds 7]

Everything runs in one process, in turns, so that the ratio is of one machine at one time; the best round counts, in CPU
time. The requests have no socket: a get over TLS takes many times as long, so its ratio is nearer to one.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable

from orchestrator.api.resources import CONFIGMAPS
from orchestrator.api.wire import Identity, Request
from orchestrator.apiserver.fairness import upkeep
from orchestrator.apiserver.fairness.gate import Gate
from tests.apiserver_fixture import Served, serving

USER = Identity("system:kube-controller-manager", ("system:authenticated",))
PATH = CONFIGMAPS.path("bench")
BODY = b'{"data":{"a":"%d"}}'
TOGETHER = 32


async def reads(served: Served, path: str, count: int) -> float:
    async def client() -> None:
        for _ in range(count // TOGETHER):
            answer = await served.server.handle(Request("GET", path, [], {}, identity=USER))
            assert answer.status == 200
            await asyncio.sleep(0)

    start = time.process_time()
    await asyncio.gather(*(client() for _ in range(TOGETHER)))
    return time.process_time() - start


async def writes(served: Served, count: int) -> float:
    headers = {"content-type": "application/merge-patch+json"}
    start = time.process_time()
    for number in range(count):
        request = Request("PATCH", f"{PATH}/c0", [], headers, BODY % (number + int(start)), identity=USER)
        assert (await served.server.handle(request)).status == 200
    return time.process_time() - start


async def main(count: int, rounds: int) -> None:
    async with serving() as served:
        await upkeep.ensure(served.client, served.server.lookup)
        for number in range(100):
            data = {"metadata": {"name": f"c{number}", "namespace": "bench"}, "data": {"a": "x" * 500}}
            await served.client.create(CONFIGMAPS, data)
        gate = Gate(served.server.lookup, served.server.core.endpoints, 600, served.server.core.clock)
        kinds: dict[str, Callable[[], Awaitable[float]]] = {
            "get": lambda: reads(served, f"{PATH}/c7", count),
            "list of 100": lambda: reads(served, PATH, count // 10),
            "patch": lambda: writes(served, count // 10),
        }
        for name, run in kinds.items():
            best: dict[bool, float] = {}
            for turn in range(2 * rounds):
                guarded = bool(turn % 2)
                served.server.gate = gate if guarded else None
                took = await run()
                best[guarded] = min(best.get(guarded, took), took)
            print(f"{name:14} {best[True] / best[False]:.3f} of the time without", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    asyncio.run(main(given.count, given.rounds))
