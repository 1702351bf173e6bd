"""Managed fields: who set which field, kept with every write in `metadata.managedFields`.

A manager is known by name, operation (Apply or Update), subresource and, for updates, API version. A write by Update
takes the fields that it changes from all others; removed fields belong to nobody. An entry's time moves only when its
manager changed something, so a write that changes nothing changes no entry.
Limits: at most 10 managers by Update; the oldest are merged into `ancient-changes`.
Source: KEP-555; Concepts, "Server-Side Apply", "Field management".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.api.meta import Object
from orchestrator.api.patch import creation, field_sets, nulls, structured
from orchestrator.api.patch.field_sets import FieldSet
from orchestrator.api.schema import Type

UPDATE_MANAGERS_MAX = 10
ANCIENT = "ancient-changes"
SETS_KEPT = 256  # about 10 KB each for a Pod
NO_FIELDS = FieldSet()


class Manager(NamedTuple):
    """Who: `api_version` is "" for Apply, whose entry is the same across versions."""

    name: str
    operation: str
    api_version: str = ""
    subresource: str = ""


class Owned(Struct, frozen=True):
    """What a manager owns, in terms of which version, and since when (wire time)."""

    fields: FieldSet
    api_version: str
    time: str = ""


Managers = dict[Manager, Owned]


class Writer(Struct, frozen=True):
    """The write at hand: `manager` is the field manager (or the user agent's first part), `now` a wire time."""

    manager: str
    api_version: str
    now: str
    subresource: str = ""


def decode(entries: Sequence[dict[str, Any]] | None) -> Managers:
    """The managers of an object; ValueError where an entry is malformed."""
    managers: Managers = {}
    for entry in entries or ():
        operation, api_version = entry.get("operation"), entry.get("apiVersion") or ""
        if operation not in ("Apply", "Update") or not api_version or entry.get("fieldsType") != "FieldsV1":
            raise ValueError("malformed managed fields entry")
        version = "" if operation == "Apply" else api_version
        manager = Manager(entry.get("manager") or "", operation, version, entry.get("subresource") or "")
        fields = _field_set(orjson.dumps(entry.get("fieldsV1") or {}))
        managers[manager] = Owned(fields, api_version, entry.get("time") or "")
    return managers


@lru_cache(maxsize=SETS_KEPT)
def _field_set(text: bytes) -> FieldSet:
    """Sets are not changed once made, and all Pods of a template have the same one; written down again as often."""
    found = field_sets.decode(orjson.loads(text))
    found.written = field_sets.encode(found)
    return found


def encode(managers: Managers) -> list[dict[str, Any]]:
    """Entries, applies first, then by time and name."""
    order = sorted(managers.items(), key=lambda m: (m[0].operation, m[1].time, m[0].name, m[1].api_version, m[0][3]))
    return [_entry(manager, owned) for manager, owned in order if owned.fields]


def _entry(manager: Manager, owned: Owned) -> dict[str, Any]:
    fields = owned.fields.written
    return _written(
        manager, owned.api_version, owned.time, field_sets.encode(owned.fields) if fields is None else fields
    )


def _store_creator(obj: Object, writer: Writer, fields: dict[str, Any]) -> None:
    manager = Manager(writer.manager, "Update", writer.api_version, writer.subresource)
    if fields:
        obj["metadata"]["managedFields"] = [_written(manager, writer.api_version, writer.now, fields)]


def _written(manager: Manager, api_version: str, time: str, fields: dict[str, Any]) -> dict[str, Any]:
    entry = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": api_version,
        "time": time,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        "subresource": manager.subresource,
    }
    return {name: value for name, value in entry.items() if value != ""}


def store(obj: Object, managers: Managers) -> None:
    """Writes the managers into the object's metadata."""
    entries = encode(managers)
    metadata = obj.setdefault("metadata", {})
    if entries:
        metadata["managedFields"] = entries
    else:
        metadata.pop("managedFields", None)


def store_entries(obj: Object, entries: list[dict[str, Any]] | None) -> None:
    metadata = obj.setdefault("metadata", {})
    if entries is not None:
        metadata["managedFields"] = entries
    else:
        metadata.pop("managedFields", None)


def record_update(
    live: Object | None, new: Object, kind: Type | None, writer: Writer, ignored: FieldSet = NO_FIELDS
) -> None:
    """Sets `new`'s managedFields for a create (`live` is None), update or patch, all but server-side apply.

    Call it with what is about to be stored, defaults included. `ignored` are fields that this (sub)resource resets
    (`KindRules.reset_fields`). A client may clear the record with `managedFields: []` or `[{}]`, or edit it.
    """
    managers = _of_request(live, new, writer)
    new.setdefault("metadata", {}).pop("managedFields", None)
    if kind is None or (live is not None and not managers):
        return  # an object that was cleared is not tracked until someone applies
    try:
        after = nulls.shown(new, kind)
        if live is None and not managers:
            _store_creator(new, writer, creation.owned(after, kind, ignored))
            return
        before = live if live is not None else structured.unset(kind)
        store(new, updated(managers, nulls.shown(before, kind), after, kind, writer, ignored))
    except structured.StructureError:
        store(new, {})  # items that cannot be told apart: what is known no longer holds


def _of_request(live: Object | None, new: Object, writer: Writer) -> Managers:
    kept = ((live or {}).get("metadata") or {}).get("managedFields")
    asked = (new.get("metadata") or {}).get("managedFields")
    if writer.subresource:
        asked = None
    elif asked is not None and asked in ([], [{}]):
        return {}
    for entries in (asked, kept):
        try:
            managers = decode(entries)
        except (ValueError, TypeError, AttributeError):
            continue
        if managers:
            return managers
    return {}


def updated(
    managers: Managers, live: Object, new: Object, kind: Type, writer: Writer, ignored: FieldSet = NO_FIELDS
) -> Managers:
    """The managers after `writer` turned `live` into `new` by Update."""
    difference = structured.compare(live, new, kind)
    changed = difference.changed().without(ignored)
    left = taken(managers, changed, difference.removed.without(ignored), by=None)
    mine = changed.difference(field_sets.IDENTITY)
    if mine:
        manager = Manager(writer.manager, "Update", writer.api_version, writer.subresource)
        if manager in left:
            mine = left[manager].fields.union(mine)
        left[manager] = Owned(mine, writer.api_version, writer.now)
    return _capped(left)


def taken(managers: Managers, changed: FieldSet, removed: FieldSet, by: Manager | None) -> Managers:
    """The managers without the fields that another one (`by`) changed or removed."""
    left: Managers = {}
    for manager, owned in managers.items():
        fields = owned.fields if manager == by else owned.fields.difference(changed).difference(removed)
        if fields:
            left[manager] = replace(owned, fields=fields)
    return left


def without_system_fields(fields: FieldSet) -> FieldSet:
    return fields.difference(field_sets.IDENTITY)


def _capped(managers: Managers) -> Managers:
    """At most UPDATE_MANAGERS_MAX by Update: the oldest of a version are merged into one bucket."""
    updaters = sorted((m for m in managers if m.operation == "Update"), key=lambda m: (managers[m].time, m))
    count = len(updaters)
    first_of: dict[str, Manager] = {}
    for manager in updaters:
        if count <= UPDATE_MANAGERS_MAX:
            break
        owned = managers[manager]
        bucket = Manager(ANCIENT, "Update", owned.api_version)
        first = first_of.setdefault(owned.api_version, manager)
        if first == manager:
            continue
        if bucket not in managers:
            managers[bucket] = managers.pop(first)
        managers[bucket] = replace(owned, fields=owned.fields.union(managers[bucket].fields))
        if manager != bucket:
            del managers[manager]
        count -= 1
    return managers


def keep_times_if_unchanged(new: Object, old: Object) -> None:
    """Where only the times of managedFields differ, the old times stay, so that the write is seen to change nothing."""
    new_entries = (new.get("metadata") or {}).get("managedFields")
    old_entries = (old.get("metadata") or {}).get("managedFields")
    if not new_entries or not old_entries or new_entries == old_entries:
        return
    if sorted(map(repr, map(_timeless, new_entries))) == sorted(map(repr, map(_timeless, old_entries))) and (
        _unmanaged(new) == _unmanaged(old)
    ):
        new["metadata"]["managedFields"] = old_entries


def _timeless(entry: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted((name, value) for name, value in entry.items() if name != "time")


def _unmanaged(obj: Object) -> Object:
    metadata = {name: value for name, value in obj["metadata"].items() if name not in ("managedFields", "generation")}
    return {**obj, "metadata": metadata}
