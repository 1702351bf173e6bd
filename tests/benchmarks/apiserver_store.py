"""The SQLite store alone: durable writes of 256 bytes by 16 and 1,000 writers, compaction, growth. By hand.

    python -m tests.benchmarks.apiserver_store FOLDER

Compare with `etcdctl check perf` or etcd's benchmark tool on the same disk.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import uvloop

from orchestrator.store.sqlite import SqliteStore

VALUE = b"x" * 256


async def writers(store: SqliteStore, count: int, seconds: float) -> None:
    deadline = time.perf_counter() + seconds
    latencies: list[float] = []

    async def write(number: int) -> None:
        key, revision = f"bench/{count}/{number}", 0
        while (start := time.perf_counter()) < deadline:
            if revision:
                revision = await store.update(key, VALUE, expected=revision)
            else:
                revision = await store.create(key, VALUE)
            latencies.append(time.perf_counter() - start)

    start = time.perf_counter()
    await asyncio.gather(*(write(number) for number in range(count)))
    took = time.perf_counter() - start
    latencies.sort()
    p99 = latencies[int(len(latencies) * 0.99)] * 1e3
    print(f"{count:5} writers {len(latencies) / took:8.0f}/s   p99 {p99:6.1f} ms", flush=True)


async def main(folder: Path) -> None:
    path = folder / "bench.db"
    path.unlink(missing_ok=True)
    store = await SqliteStore.open(path)
    for count in (1, 16, 1000):
        await writers(store, count, 3)
    size = path.stat().st_size / 1e6
    waits: list[float] = []

    async def probe() -> None:
        revision = await store.create("probe", VALUE)
        while True:
            start = time.perf_counter()
            revision = await store.update("probe", VALUE, expected=revision)
            waits.append(time.perf_counter() - start)

    probing = asyncio.create_task(probe())
    start = time.perf_counter()
    await store.compact(store.revision - 10)
    probing.cancel()
    print(f"compaction of {size:.0f} MB took {time.perf_counter() - start:.2f} s; a write beside it waited at most "
          f"{max(waits) * 1e3:.1f} ms; file now {path.stat().st_size / 1e6:.0f} MB")  # fmt: skip
    await store.close()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1])))
