"""python -m tests.fuzz [--count 100000] [--seed 1]: prints what was answered, and each fault with a request."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from tests.fuzz import campaign
from tests.whole_server import whole_server


async def main(count: int, seed: int) -> int:
    start = time.monotonic()
    with TemporaryDirectory() as folder:
        async with whole_server(Path(folder)) as server:
            outcome = await campaign.run(server, count, seed)
    for what, requests in outcome.faults.items():
        print(f"{what}\n  {len(requests)} times, as {min(requests, key=len)}\n")
    print("answers:", dict(sorted(outcome.codes.items())))
    for took_s, request in outcome.slowest:
        print(f"{took_s * 1e3:8.0f} ms  {request}")
    memory = f"{outcome.memory_before_mib:.0f} MiB → {outcome.memory_after_mib:.0f} MiB"
    print(f"{sum(outcome.codes.values())} inputs in {time.monotonic() - start:.0f} s, memory {memory}")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    sys.exit(uvloop.run(main(arguments.count, arguments.seed)))
