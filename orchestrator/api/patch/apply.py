"""Server-side apply: a manager says what it wants, the server merges it and keeps the peace between managers.

The applied object is laid over the live one. Fields that the manager applied before and not now are removed, unless
another manager owns them. A field whose value changes and that others own is a conflict, refused with their names
unless forced; forced, it changes hands. kubectl's own apply may take what the client-side apply annotation shows to be
its own. Errors: BadRequest, Conflict with FieldManagerConflict causes, InternalError where the object does not fit.
Source: KEP-555; Concepts, "Server-Side Apply".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from orchestrator.api import decoding, schema
from orchestrator.api.meta import Object, copied
from orchestrator.api.patch import field_sets, managed_fields, nulls, structured, unstructured
from orchestrator.api.patch.field_sets import FieldSet, Path
from orchestrator.api.patch.managed_fields import Manager, Managers, Owned, Writer
from orchestrator.api.resources import Resource
from orchestrator.api.schema import Type
from orchestrator.api.status import ApiError, BadRequest, Cause, Conflict

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class _Misfit(ApiError):
    """An applied object that does not fit the schema: 500 without a reason, as kube-apiserver answers."""

    code, reason = 500, ""


class _Conflicts(Exception):
    def __init__(self, found: list[tuple[Manager, Owned, Path]]) -> None:
        super().__init__()
        self.found = found

    @property
    def fields(self) -> FieldSet:
        fields = FieldSet()
        for _, _, path in self.found:
            fields.add(*path)
        return fields


def apply(
    live: Object | None,
    applied: Object,
    resource: Resource,
    kind: Type,
    writer: Writer,
    *,
    force: bool = False,
    ignored: FieldSet = managed_fields.NO_FIELDS,
) -> Object:
    """The new object with its managedFields, decoded (pruned, canonical), before defaults. `live` None creates."""
    _check_identity(applied, resource)
    try:
        structured.check(applied, kind)
    except structured.StructureError as error:
        raise _Misfit(f"failed to create typed patch object ({_object_of(applied, resource)}): {error}") from error
    base = live if live is not None else structured.unset(kind)
    managers = managed_fields.decode((base.get("metadata") or {}).get("managedFields"))
    base = nulls.shown(_without_managed_fields(base), kind)
    try:
        if not managers and live is not None:
            before, nothing = Writer("before-first-apply", resource.api_version, writer.now), structured.unset(kind)
            managers = managed_fields.updated({}, nulls.shown(nothing, kind), base, kind, before, ignored)
        result, managers = _merge(base, applied, kind, managers, writer, force, ignored)
    except _Conflicts as conflicts:
        if writer.manager == "kubectl" and _are_client_side(conflicts, base, kind, resource):
            result, managers = _merge(base, applied, kind, managers, writer, True, ignored)
        else:
            raise _conflict_error(conflicts) from conflicts
    except structured.StructureError as error:  # of what is there: a client wrote it past apply
        raise _Misfit(
            f"failed to create typed live object ({_object_of(base, resource)}): {_fault(base, kind) or error}"
        ) from error
    _sync_last_applied(result, applied, writer)
    try:
        if not resource.is_custom:
            unstructured.restore(result, kind)
        decoding.decode_as(result, resource)
    except (decoding.DecodeError, unstructured.NotRestorable) as error:
        why = f"unable to convert unstructured object to {_kind_of(resource)}: {error}"
        raise _Misfit(
            f"failed to convert new object ({_object_of(applied, resource)}) to proper version: {why}"
        ) from error
    managed_fields.store(result, managers)
    return result


def _fault(live: Object, kind: Type) -> str:
    """What of an object does not fit its schema; an item may be in a list twice."""
    try:
        structured.check(live, kind, repeats=True)
    except structured.StructureError as error:
        return str(error)
    return ""


def _object_of(applied: Object, resource: Resource) -> str:
    named = applied["metadata"] if isinstance(applied.get("metadata"), dict) else {}
    return f"{named.get('namespace') or ''}/{named.get('name') or ''}; {_kind_of(resource)}"


def _kind_of(resource: Resource) -> str:
    return f"{resource.group}/{resource.version}, Kind={resource.kind}"  # "/v1" for the core group


def _check_identity(applied: Object, resource: Resource) -> None:
    api_version, kind = (_text(applied.get(name)) for name in ("apiVersion", "kind"))
    group, _, version = api_version.rpartition("/")
    is_known = api_version == resource.api_version or schema.type_of_kind(group, version, kind) is not None
    if not is_known or kind != resource.kind:
        raise BadRequest(f"invalid object type: {group}/{version}, Kind={kind}")
    if api_version != resource.api_version:
        raise BadRequest(
            f"Incorrect version specified in apply patch. Specified patch version: {api_version}, "
            f"expected: {resource.api_version}"
        )
    metadata = applied.get("metadata")
    if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")


def _text(value: Any) -> str:
    """What is no text says nothing."""
    return value if isinstance(value, str) else ""


def _without_managed_fields(obj: Object) -> Object:
    metadata = {key: value for key, value in (obj.get("metadata") or {}).items() if key != "managedFields"}
    return {**obj, "metadata": metadata}


def _merge(
    live: Object, applied: Object, kind: Type, managers: Managers, writer: Writer, force: bool, ignored: FieldSet
) -> tuple[Object, Managers]:
    me = Manager(writer.manager, "Apply", "", writer.subresource)
    last = managers.get(me)
    fields = structured.field_set(applied, kind).without(ignored)
    managers = {**managers, me: Owned(fields, writer.api_version, last.time if last else "")}
    merged = copied(structured.merge(live, applied, kind))
    if last is not None:
        merged = _pruned(merged, last.fields, managers, kind)
    difference = structured.compare(live, merged, kind)
    changed = difference.changed().without(ignored)
    if not force:
        _refuse_conflicts(managers, me, changed)
    managers = managed_fields.taken(managers, changed, difference.removed.without(ignored), by=me)
    mine = managed_fields.without_system_fields(fields)
    if not mine:
        managers.pop(me, None)
        return merged, managers
    is_same = last is not None and last.fields == mine and last.api_version == writer.api_version and merged == live
    time = last.time if last is not None and is_same else writer.now
    managers[me] = Owned(mine, writer.api_version, time)
    return merged, managers


def _pruned(merged: Object, last: FieldSet, managers: Managers, kind: Type) -> Object:
    """Without what this manager applied last time and nobody (this manager now included) claims any more."""

    def named(fields: FieldSet) -> FieldSet:
        return structured.with_named_fields(fields, kind)

    everything = named(structured.field_set(merged, kind))
    pruned = structured.remove(merged, named(last), kind)
    owned = FieldSet()
    for other in managers.values():
        owned = owned.union(other.fields)
    # What others own comes back, then what the manager never owned (it only went along with a removed parent).
    kept = named(structured.field_set(pruned, kind)).union(named(owned))
    pruned = structured.remove(merged, everything.difference(kept), kind)
    gone = everything.difference(named(structured.field_set(pruned, kind)))
    result: Object = structured.remove(merged, gone.intersection(named(last)), kind)
    return result


def _refuse_conflicts(managers: Managers, me: Manager, changed: FieldSet) -> None:
    found = [
        (manager, owned, path)
        for manager, owned in managers.items()
        if manager != me
        for path in owned.fields.intersection(changed).paths()
    ]
    if found:
        raise _Conflicts(found)


def _are_client_side(conflicts: _Conflicts, live: Object, kind: Type, resource: Resource) -> bool:
    """Whether every conflict is a field that `kubectl apply` (client side) set and that still has its value.

    Where only some are, those are dropped from the conflicts that are told.
    """
    try:
        last = orjson.loads(((live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED) or "")
        if last.get("apiVersion") != resource.api_version:
            return False
        structured.check(last, kind)
        difference = structured.compare(last, live, kind)
        mine = structured.field_set(last, kind)
    except (orjson.JSONDecodeError, AttributeError, structured.StructureError):
        return False
    for changed in (difference.modified, difference.added, difference.removed):
        mine = mine.difference(changed)
    conflicts.found = [conflict for conflict in conflicts.found if not mine.has(conflict[2])]
    return not conflicts.found


def _conflict_error(conflicts: _Conflicts) -> Conflict:
    causes = [
        Cause(field_sets.show(path), "FieldManagerConflict", f"conflict with {_shown(manager, owned)}")
        for manager, owned, path in conflicts.found
    ]
    if len(causes) == 1:
        return Conflict(f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}", causes=causes)
    lines: list[str] = []
    for manager, owned in _each_manager(conflicts.found):
        lines.append(f"conflicts with {_shown(manager, owned)}:")
        lines.extend(f"- {field_sets.show(path)}" for other, _, path in conflicts.found if other == manager)
    return Conflict(f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines), causes=causes)


def _each_manager(found: Iterable[tuple[Manager, Owned, Path]]) -> list[tuple[Manager, Owned]]:
    return sorted({manager: owned for manager, owned, _ in found}.items(), key=lambda pair: pair[0])


def _shown(manager: Manager, owned: Owned) -> str:
    text = f'"{manager.name}"'
    if manager.subresource:
        text += f' with subresource "{manager.subresource}"'
    return f"{text} using {owned.api_version}" if manager.operation == "Update" else text


def _sync_last_applied(result: Object, applied: Object, writer: Writer) -> None:
    """kubectl's server-side apply keeps the client-side annotation true, so one can go back."""
    annotations: dict[str, Any] = (result.get("metadata") or {}).get("annotations") or {}
    if writer.manager != "kubectl" or not annotations.get(LAST_APPLIED):
        return
    shown = copied(applied)
    ((shown.get("metadata") or {}).get("annotations") or {}).pop(LAST_APPLIED, None)
    annotations[LAST_APPLIED] = orjson.dumps(shown, option=orjson.OPT_SORT_KEYS).decode() + "\n"
