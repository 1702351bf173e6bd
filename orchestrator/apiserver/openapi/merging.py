"""Joining another server's document (version 2) to ours: only its own paths, with what they refer to.

Definitions and shared parameters of one name that are not the same get another name (`…_v2`, `…_v3`) on the side that
comes later; of the same definition, the kinds that it stands for are put together. Paths that are there already stay.
Neither document is changed. Source: k8s.io/kube-openapi pkg/aggregator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]

_GVK = "x-kubernetes-group-version-kind"
_SHARED = ("definitions", "parameters")


def of_paths(document: Document, is_kept: Callable[[str], bool]) -> dict[str, Any]:
    """Without the other paths, and without the definitions that only those need."""
    used_before = _used(document, "definitions")
    kept = {**document, "paths": {path: item for path, item in (document.get("paths") or {}).items() if is_kept(path)}}
    used = _used(kept, "definitions")
    definitions = document.get("definitions") or {}
    kept["definitions"] = {name: one for name, one in definitions.items() if name in used or name not in used_before}
    return kept


def merged(first: Document, second: Document) -> dict[str, Any]:
    held = first.get("paths") or {}
    new = [path for path in second.get("paths") or {} if path not in held]
    if not new:
        return dict(first)
    if len(new) < len(second["paths"]):
        second = of_paths(second, lambda path: path not in held)
    for shared in _SHARED:
        second = _renamed(second, shared, _renames(first.get(shared) or {}, second.get(shared) or {}))
    found = {**first, "paths": {**held, **second["paths"]}}
    for shared in _SHARED:
        if first.get(shared) or second.get(shared):
            found[shared] = {**(second.get(shared) or {}), **(first.get(shared) or {})}
    for name, ours in (first.get("definitions") or {}).items():
        theirs = (second.get("definitions") or {}).get(name)
        if theirs is not None and theirs.get(_GVK):
            kinds = list(ours.get(_GVK) or ())
            kinds += [kind for kind in theirs[_GVK] if kind not in kinds]
            found["definitions"][name] = {**ours, _GVK: kinds}
    return found


def _renames(ours: Document, theirs: Document) -> dict[str, str]:
    """Their names that mean something else here → the names that they get."""
    found: dict[str, str] = {}
    taken = {*ours, *theirs}
    for name, one in theirs.items():
        if name not in ours or _same(ours[name], one):
            continue
        number = 2
        while (other := f"{name}_v{number}") in taken and not (other in ours and _same(ours[other], one)):
            number += 1
        found[name] = other
        taken.add(other)
    return found


def _same(ours: Document, theirs: Document) -> bool:
    """But for the kinds that they stand for."""
    return {**ours, _GVK: None} == {**theirs, _GVK: None}


def _renamed(document: Document, shared: str, renames: Mapping[str, str]) -> Document:
    if not renames:
        return document
    places = {f"#/{shared}/{old}": f"#/{shared}/{new}" for old, new in renames.items()}
    found: dict[str, Any] = _replaced(document, places)
    found[shared] = {renames.get(name, name): one for name, one in found[shared].items()}
    return found


def _replaced(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_replaced(inner, places) for inner in value]
    if not isinstance(value, dict):
        return value
    return {
        key: places.get(inner, inner) if key == "$ref" and isinstance(inner, str) else _replaced(inner, places)
        for key, inner in value.items()
    }


def _used(document: Document, shared: str) -> set[str]:
    start = f"#/{shared}/"
    return {place.removeprefix(start) for place in _references(document) if place.startswith(start)}


def _references(value: Any) -> Iterator[str]:
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _references(inner)
    if isinstance(value, dict) and isinstance(value.get("$ref"), str):
        yield value["$ref"]
