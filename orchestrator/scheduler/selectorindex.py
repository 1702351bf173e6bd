"""Which of many selectors match a Pod, without asking each one.

Most selectors require one label to have one value (`app=web`): such an item is found under that pair, and the few
others under their namespaces. An item is then asked itself, so a candidate too many costs time, never correctness.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from orchestrator.api.selectors import LabelSelector

T = TypeVar("T")
_Place = tuple[str, str]
_ANY: _Place = ("", "")


class SelectorIndex(Generic[T]):
    """Items in the order of their arrival under each place, so that every run asks in the same order."""

    def __init__(self) -> None:
        self._items: dict[_Place, dict[T, None]] = {}

    def add(self, item: T, selector: LabelSelector) -> None:
        self._items.setdefault(_place(selector), {})[item] = None

    def remove(self, item: T, selector: LabelSelector) -> None:
        place = _place(selector)
        items = self._items[place]
        del items[item]
        if not items:
            del self._items[place]

    def candidates(self, labels: Mapping[str, str]) -> Iterator[T]:
        if not self._items:
            return
        yield from self._items.get(_ANY, ())
        for pair in labels.items():
            yield from self._items.get(pair, ())


def _place(selector: LabelSelector) -> _Place:
    for requirement in selector.requirements:
        if requirement.operator == "In" and len(requirement.values) == 1:
            (value,) = requirement.values
            return requirement.key, value
    return _ANY
