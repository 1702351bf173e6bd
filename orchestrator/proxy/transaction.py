"""From the rules that are in the kernel to the rules that should be: one nft transaction, in few commands.

`Committed` remembers what the kernel holds, so the table is never listed. Rules are kept by service port; several
service ports may need one element (a load balancer's address, a hairpin pair), so elements and chains are counted and
go with their last user. Elements of one set travel in commands of at most ELEMENTS_PER_COMMAND: one command an element
is quadratic in libnftables, and one huge command overruns the netlink buffer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from orchestrator.proxy.ruleset import TABLE, Element, Rules, Shape, chain_rules, prerequisite

ELEMENTS_PER_COMMAND = 2000


class Committed:
    """The kernel's state as this proxy made it."""

    def __init__(self) -> None:
        self.rules: dict[str, Rules] = {}  # by `service|…`
        self._names: dict[str, set[str]] = {}
        self._users: Counter[Element] = Counter()
        self._values: dict[Element, str] = {}
        self._chains: Counter[Shape] = Counter()

    def change(self, wanted: Mapping[str, Rules | None]) -> list[str]:
        """The commands that bring the given service ports to their new rules (None: gone), applied to this record as
        well. The caller commits them all in one transaction, or throws this record away and starts with a full sync."""
        before: dict[Element, str | None] = {}
        chains_before: dict[Shape, int] = {}
        for name, new in wanted.items():
            self._replace(name, new or Rules(), before, chains_before)
            names = self._names.setdefault(name.partition("|")[0], set())
            if new is None:
                self.rules.pop(name, None)
                names.discard(name)
            else:
                self.rules[name] = new
                names.add(name)
        removed, added = [], []
        for element, old in before.items():
            value = self._values.get(element)
            if old != value:
                if old is not None:
                    removed.append((element, old))
                if value is not None:
                    added.append((element, value))
        appeared = sorted(shape for shape, count in chains_before.items() if not count and self._chains[shape])
        vanished = sorted(shape for shape, count in chains_before.items() if count and not self._chains[shape])
        return [
            *_add_chains(appeared),
            *_element_commands("delete", removed),
            *_element_commands("add", added),
            *_delete_chains(vanished),
        ]

    def names_of(self, service: str) -> list[str]:
        """The names under which a Service (namespace/name) has rules."""
        return sorted(self._names.get(service, ()))

    def _replace(
        self, name: str, new: Rules, before: dict[Element, str | None], chains_before: dict[Shape, int]
    ) -> None:
        old = self.rules.get(name) or Rules()
        for element, value in old.elements.items():
            if new.elements.get(element) != value:
                before.setdefault(element, self._values.get(element))
                self._users[element] -= 1
                if not self._users[element]:
                    del self._users[element], self._values[element]
        for element, value in new.elements.items():
            if old.elements.get(element) != value:
                before.setdefault(element, self._values.get(element))
                self._users[element] += 1
                self._values[element] = value
        for shape, step in [*((shape, 1) for shape in new.shapes), *((shape, -1) for shape in old.shapes)]:
            for chain in (shape, prerequisite(shape)):
                if chain is not None:
                    chains_before.setdefault(chain, self._chains[chain])
                    self._chains[chain] += step


def _add_chains(shapes: Iterable[Shape]) -> list[str]:
    """Chains first, then their rules: one may go to another."""
    shapes = list(shapes)
    commands = [f"add chain inet {TABLE} {shape.chain}" for shape in shapes]
    return commands + [f"add rule inet {TABLE} {shape.chain} {rule}" for shape in shapes for rule in chain_rules(shape)]


def _delete_chains(shapes: Iterable[Shape]) -> list[str]:
    shapes = list(shapes)
    flushed = [f"flush chain inet {TABLE} {shape.chain}" for shape in shapes]
    return flushed + [f"delete chain inet {TABLE} {shape.chain}" for shape in shapes]


def _element_commands(verb: str, elements: Iterable[tuple[Element, str]]) -> list[str]:
    by_set: dict[str, list[str]] = {}
    for (name, key), value in elements:
        by_set.setdefault(name, []).append(f"{key} : {value}" if value else key)
    return [
        f"{verb} element inet {TABLE} {name} {{ {', '.join(texts[first : first + ELEMENTS_PER_COMMAND])} }}"
        for name, texts in by_set.items()
        for first in range(0, len(texts), ELEMENTS_PER_COMMAND)
    ]
