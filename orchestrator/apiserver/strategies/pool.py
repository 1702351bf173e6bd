"""A pool of values that each belong to at most one owner: Service addresses, node ports.

What is taken is what the watch cache shows, plus what writes under way have reserved. A reservation is dropped when its
write fails, or when the cache shows the value as its owner's. One event loop changes a pool, so between looking and
reserving nothing can come in between.
Values are integers. The lower band of a pool is left to those who choose a value themselves, so that a random choice
rarely takes it first. Source: KEP-3070 (service IP bands), KEP-3668 (node port bands).
"""

from __future__ import annotations

from random import Random


class Taken(Exception):
    """The value belongs to another owner."""


class Full(Exception):
    """No value is free."""


class Pool:
    """`first` to `last` inclusive may be chosen; the `static_count` lowest are given out only when nothing else is."""

    def __init__(self, first: int, last: int, static_count: int, random: Random) -> None:
        assert first <= last
        self.first, self.last = first, last
        self._dynamic_first = min(first + static_count, last)
        self._random = random
        self._held: dict[int, set[str]] = {}
        self._reserved: dict[int, list[str]] = {}

    def __contains__(self, value: int) -> bool:
        return self.first <= value <= self.last

    def is_free(self, value: int, owner: str) -> bool:
        holders = {*self._held.get(value, ()), *self._reserved.get(value, ())}
        return holders <= {owner}

    def reserve(self, value: int, owner: str) -> None:
        if not self.is_free(value, owner):
            raise Taken(value)
        self._reserved.setdefault(value, []).append(owner)

    def reserve_any(self, owner: str) -> int:
        """A free value: at random from the upper band, else the first free of the whole pool."""
        value = self._search(self._dynamic_first, self.last)
        if value is None:
            value = self._search(self.first, self._dynamic_first)
        if value is None:
            raise Full
        self._reserved.setdefault(value, []).append(owner)
        return value

    def _search(self, first: int, last: int) -> int | None:
        size = last - first + 1
        start = self._random.randrange(size)
        values = (first + (start + step) % size for step in range(size))
        return next((value for value in values if value not in self._held and value not in self._reserved), None)

    def settle(self, value: int, owner: str, *, written: bool) -> None:
        """End one reservation. A written one is kept until the cache shows it, so no one slips in between."""
        if written and owner not in self._held.get(value, ()):
            return
        owners = self._reserved.get(value, [])
        if owner in owners:
            owners.remove(owner)
        if not owners:
            self._reserved.pop(value, None)

    def observe(self, owner: str, before: set[int], after: set[int]) -> None:
        """The watch cache shows that an owner's values changed."""
        for value in before - after:
            holders = self._held.get(value, set())
            holders.discard(owner)
            if not holders:
                self._held.pop(value, None)
        for value in after:
            self._held.setdefault(value, set()).add(owner)
            if owner in self._reserved.get(value, ()):
                self._reserved[value] = [one for one in self._reserved[value] if one != owner]
                if not self._reserved[value]:
                    del self._reserved[value]
