"""Columns of the snapshot: one number a node, in the order of the snapshot's rows.

A coded column holds for each node the code of its value among the values that occur; code 0 is "absent". A question
asked of every value once (is it in the set? is it tolerated?) becomes a table, and indexing the table with the column
answers it for all nodes. Values are few where nodes are many: zones, instance types, sets of taints. For columns whose
values are all different, such as hostnames, the table is as long as the column, and is still built only once a change.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]
Rows = NDArray[np.intp]
Codes = NDArray[np.intp]

V = TypeVar("V", bound=Hashable)


class CodedColumn(Generic[V]):
    """`codes` is exposed for counting by value (`np.bincount`)."""

    def __init__(self, capacity: int) -> None:
        self.codes: Codes = np.zeros(capacity, np.intp)
        self.values: list[V | None] = [None]  # by code
        self._code_of: dict[V, int] = {}

    def set(self, row: int, value: V | None) -> None:
        if value is None:
            self.codes[row] = 0
            return
        code = self._code_of.get(value)
        if code is None:
            code = self._code_of[value] = len(self.values)
            self.values.append(value)
        self.codes[row] = code

    def grow(self, capacity: int) -> None:
        self.codes = grown(self.codes, capacity)

    def where(self, holds: Callable[[V | None], bool]) -> Mask:
        """The rows whose value passes; asked once for each value, absent included."""
        table: Mask = np.fromiter((holds(value) for value in self.values), np.bool_, len(self.values))
        return table[self.codes]

    def table(self, number: Callable[[V | None], float]) -> Numbers:
        """A number for each row, asked once for each value."""
        values = np.fromiter((number(value) for value in self.values), np.float64, len(self.values))
        return values[self.codes]

    def sums(self, amounts: Numbers) -> Numbers:
        """For each row the sum of `amounts` over the rows of equal value; 0 where the value is absent."""
        totals = np.bincount(self.codes, amounts, len(self.values)).astype(np.float64, copy=False)
        totals[0] = 0
        return totals[self.codes]


A = TypeVar("A", bound=np.generic)


def grown(array: NDArray[A], capacity: int) -> NDArray[A]:
    """A copy with room for `capacity` rows (its last axis), zero in the new ones."""
    larger = np.zeros((*array.shape[:-1], capacity), array.dtype)
    larger[..., : array.shape[-1]] = array
    return larger
