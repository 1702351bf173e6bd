"""Node ports that are taken: one record in the store, changed by compare-and-swap, so that several servers agree.

The record is a RangeAllocation, a bit for each port of the range, as kube-apiserver keeps it; it is no resource that
anyone could ask for. A port is taken before its Service is stored and given back when that fails or the Service goes.
What a crash in between left taken is found by `repair`, which is called from time to time.
Ports are looked for from a random place of the upper band; the lower one is left to those who choose for themselves.
Errors: StoreFailed. Source: KEP-3668 (bands); k8s.io/kubernetes registry/core/service/portallocator.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable, Set
from random import Random
from typing import Any

import orjson

from orchestrator.store.interface import KeyExists, RevisionMismatch, Store

KEY = "ranges/servicenodeports"
STATIC_MIN, STATIC_MAX, STATIC_STEP = 16, 128, 32  # ports of the lower band: one in STATIC_STEP, within bounds
LEAK_REPAIRS = 3  # repairs that a port which no Service has survives: its Service may be on its way


class NodePorts:
    """`first` to `last` inclusive; `used` says which ports the Services have that this server knows."""

    def __init__(self, store: Store, first: int, last: int, random: Random, used: Callable[[], Set[int]]) -> None:
        self._store, self._random, self._used = store, random, used
        self.first, self.last = first, last
        self._dynamic = min(first + min(max(STATIC_MIN, (last - first + 1) // STATIC_STEP), STATIC_MAX), last)
        self._lock = asyncio.Lock()
        self._known: tuple[int, frozenset[int]] | None = None  # revision of the record, and what it says
        self._leaks: dict[int, int] = {}

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    async def is_taken(self, port: int) -> bool:
        async with self._lock:
            self._known = None
            return port in (await self._read())[1]

    async def take(self, port: int) -> bool:
        """Whether it was free, and is the caller's now."""
        found = await self._changed(lambda taken: None if port in taken else taken | {port})
        return found is not None

    async def give(self) -> int | None:
        """A free port, the caller's now; None where there is none."""
        given: list[int] = []

        def change(taken: frozenset[int]) -> frozenset[int] | None:
            port = self._free(taken)
            given[:] = [port] if port is not None else []
            return None if port is None else taken | {port}

        await self._changed(change)
        return given[0] if given else None

    async def release(self, ports: Iterable[int]) -> None:
        gone = frozenset(ports)
        if gone:
            await self._changed(lambda taken: taken - gone if taken & gone else None)

    async def repair(self) -> None:
        """Makes the record agree with the Services: what they have is taken, what nobody has for long is not."""

        def change(taken: frozenset[int]) -> frozenset[int] | None:
            used = frozenset(port for port in self._used() if port in self)
            leaks = {port: self._leaks.get(port, LEAK_REPAIRS) - 1 for port in taken - used}
            self._leaks = {port: left for port, left in leaks.items() if left > 0}
            right = used | self._leaks.keys()
            return right if right != taken else None

        self._known = None
        await self._changed(change)

    def _free(self, taken: frozenset[int]) -> int | None:
        for low, high in ((self._dynamic, self.last), (self.first, self._dynamic - 1)):
            size = high - low + 1
            start = self._random.randrange(size) if size > 0 else 0
            for step in range(size):
                if (port := low + (start + step) % size) not in taken:
                    return port
        return None

    async def _changed(self, change: Callable[[frozenset[int]], frozenset[int] | None]) -> frozenset[int] | None:
        """Applies `change` to what is taken, again where another server was quicker; None where it has no wish, by what
        the store says now: what this server knows of it is only good for a compare-and-swap."""
        async with self._lock:
            while True:
                is_fresh = self._known is None
                revision, taken = await self._read()
                wanted = change(taken)
                if wanted is None:
                    if is_fresh:
                        return None
                    self._known = None
                    continue
                value = self._encoded(wanted)
                try:
                    if revision:
                        revision = await self._store.update(KEY, value, expected=revision)
                    else:
                        revision = await self._store.create(KEY, value)
                except (RevisionMismatch, KeyExists):
                    self._known = None
                    continue
                self._known = revision, wanted
                return wanted

    async def _read(self) -> tuple[int, frozenset[int]]:
        if self._known is None:
            item = await self._store.get(KEY)
            if item is None:  # the first server: what the Services have
                return 0, frozenset(port for port in self._used() if port in self)
            self._known = item.revision, frozenset(port for port in _decoded(item.value) if port in self)
        return self._known

    def _encoded(self, taken: frozenset[int]) -> bytes:
        bits = sum(1 << (port - self.first) for port in taken)
        size = (self.last - self.first + 8) // 8
        record = {
            "kind": "RangeAllocation",
            "apiVersion": "v1",
            "metadata": {"name": "servicenodeports"},
            "range": f"{self.first}-{self.last}",
            "data": base64.b64encode(bits.to_bytes(size, "little")).decode(),
        }
        return orjson.dumps(record)


def _decoded(value: bytes) -> Set[int]:
    record: dict[str, Any] = orjson.loads(value)
    first = int(record["range"].partition("-")[0])
    bits = int.from_bytes(base64.b64decode(record["data"]), "little")
    return {first + place for place in range(bits.bit_length()) if bits >> place & 1}
