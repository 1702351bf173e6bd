"""A histogram of the Prometheus text format: how often a value fell below each of its bounds.

Observing is a bisection and three additions, since it happens on every request.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence


class Histogram:
    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def count(self) -> int:
        return sum(self._counts)

    @property
    def is_empty(self) -> bool:
        return not any(self._counts)

    def with_more(self, value: float, count: int) -> Histogram:
        """As if `value` had been observed so many times more."""
        more = Histogram(self._bounds)
        more._counts = list(self._counts)
        more._counts[bisect.bisect_left(self._bounds, value)] += count
        more._sum = self._sum + value * count
        return more

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """`labels` as they stand between the braces; there may be none."""
        total, before = 0, f"{labels}," if labels else ""
        braces = f"{{{labels}}}" if labels else ""
        for count, bound in zip(self._counts, (*self._bounds, float("inf")), strict=True):
            total += count
            shown = "+Inf" if bound == float("inf") else f"{bound:g}"
            yield f'{name}_bucket{{{before}le="{shown}"}} {total}'
        yield f"{name}_count{braces} {total}"
        yield f"{name}_sum{braces} {self._sum:.6f}"
