"""Diff: which properties change, and whether the resource can be changed or must be made anew.

Paths are Pulumi's (`disks[0].volumeId`); a rule about one leaves the indices out (`disks.volumeId`). Not given, null,
an empty text, list or object are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from infra.provider.properties import UNKNOWN, Unknown, Values
from infra.provider.resource import Resource

INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class Change:
    path: str
    kind: Literal["add", "delete", "update"]
    replaces: bool = False

    @property
    def top(self) -> str:
        """The top-level property that it is in."""
        return re.split(r"[.\[]", self.path, maxsplit=1)[0]


def changes(resource: Resource, old: Values, new: Values) -> list[Change]:
    found = []
    for path, kind, value in sorted(_walk("", old, new), key=lambda entry: entry[0]):
        place = INDEX.sub("", path)
        is_made_anew = kind == "update" and value is UNKNOWN and place in resource.replaces_if_unknown
        replaces = is_made_anew or _covers(resource.replaces, place)
        found.append(Change(path, kind, replaces))
    return found


def _covers(rules: frozenset[str], place: str) -> bool:
    steps = place.split(".")
    return any(".".join(steps[:depth]) in rules for depth in range(1, len(steps) + 1))


def _walk(path: str, old: Any, new: Any) -> Iterator[tuple[str, Literal["add", "delete", "update"], Any]]:
    if _absent(old) and _absent(new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old.keys() | new.keys():
            before, after = old.get(name), new.get(name)
            # An object that comes or goes is its members' change: a rule may be about one of them (`dns.forwarders`).
            if isinstance(after, dict) and _absent(before):
                before = {}
            elif isinstance(before, dict) and _absent(after):
                after = {}
            yield from _walk(f"{path}.{name}" if path else name, before, after)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            pair = [values[index] if index < len(values) else None for values in (old, new)]
            yield from _walk(f"{path}[{index}]", *pair)
    elif _absent(old):
        yield path, "add", new
    elif _absent(new):
        yield path, "delete", None
    elif isinstance(new, Unknown) or old != new:
        yield path, "update", new


def _absent(value: Any) -> bool:
    return value is None or (value in ("", [], {}) and not isinstance(value, bool | int | float))


def overlay(old: Any, new: Any, computed: frozenset[str], place: str = "") -> Any:
    """Outputs before an update, as a preview shows them: the new inputs, and what libvirt chose and will keep.

    Without old outputs (before a creation) what libvirt will choose is unknown.
    """
    if isinstance(new, dict):
        previous = old if isinstance(old, dict) else {}
        shown = {
            name: overlay(previous.get(name), member, computed, f"{place}.{name}".lstrip("."))
            for name, member in new.items()
        }
        for path in computed:
            parent, _, name = path.rpartition(".")
            if parent == place and name not in new:
                shown[name] = previous.get(name, UNKNOWN)
        return shown
    if isinstance(new, list):
        earlier = old if isinstance(old, list) else []
        return [
            overlay(earlier[index] if index < len(earlier) else None, element, computed, place)
            for index, element in enumerate(new)
        ]
    return new
