"""The scale subresource: one number of several kinds, seen as an autoscaling/v1 Scale.

Reading makes a Scale of the parent; writing makes one, changes it, and takes its `spec.replicas` back into the parent,
with who owns it, and nothing else. The kinds are those with `spec.replicas` and a selector: Deployment, ReplicaSet,
StatefulSet, ReplicationController, and custom resources whose definition says where the numbers are.
Source: autoscaling/v1 Scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orchestrator.api import selectors
from orchestrator.api.custom import ScalePaths
from orchestrator.api.kinds import faults
from orchestrator.api.meta import Object, copied
from orchestrator.api.patch import managed_fields, scale_fields
from orchestrator.api.patch.field_sets import Path
from orchestrator.api.patch.scale_fields import Paths
from orchestrator.api.resources import Resource
from orchestrator.api.status import BadRequest, InternalError, invalid
from orchestrator.api.structural import jsonpath

SCALES = Resource("autoscaling", "v1", "scales", "Scale")
BUILT_IN = ScalePaths(".spec.replicas", ".status.replicas")
_SHARED_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(parent: Object, paths: ScalePaths | None = None) -> Object:
    """`paths` are a custom resource's: where its definition says that the numbers are. Errors: InternalError where it
    has no number to show."""
    if paths is not None and _number(parent, paths.spec_replicas) is None:
        raise InternalError(f"the spec replicas field {faults.shown(paths.spec_replicas)} does not exist")
    return _scale_of(parent, paths)


def _scale_of(parent: Object, paths: ScalePaths | None) -> Object:
    if paths is not None:
        return _custom_scale(parent, paths)
    spec, status = parent.get("spec") or {}, parent.get("status") or {}
    selector = spec.get("selector") or {}
    if parent.get("kind") == "ReplicationController":
        text = str(selectors.from_labels(selector))
    else:
        text = str(selectors.from_json(selector))
    shown = {"replicas": status.get("replicas", 0), **({"selector": text} if text else {})}
    return _scale(parent, spec.get("replicas", 0), shown)


def _scale(parent: Object, replicas: int | None, status: Object) -> Object:
    return {
        "kind": SCALES.kind,
        "apiVersion": SCALES.api_version,
        "metadata": {key: parent["metadata"][key] for key in _SHARED_METADATA if key in parent["metadata"]},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def _custom_scale(parent: Object, paths: ScalePaths) -> Object:
    status: Object = {"replicas": _number(parent, paths.status_replicas) or 0}
    if paths.selector and (text := next(iter(jsonpath.find(parent, paths.selector)), "")):
        status["selector"] = str(text)
    return _scale(parent, _number(parent, paths.spec_replicas), status)


def _number(parent: Object, path: str) -> int | None:
    found = next(iter(jsonpath.find(parent, path)), None)
    return found if isinstance(found, int) else None


def replicas_paths(rows: Iterable[Resource]) -> dict[str, Path | None]:
    """Where the number is in each version of a kind, by the rows of these versions."""
    found: dict[str, Path | None] = {}
    for row in rows:
        paths = BUILT_IN if row.custom is None else row.custom.scale
        found[row.api_version] = scale_fields.path_of(paths.spec_replicas) if paths is not None else None
    return found


def rescaled(parent: Object, row: Resource, places: Paths, change: Callable[[Object], Object]) -> Object:
    """The parent after `change` has made another of its Scale, managed fields included. `row` is that of the version
    at hand, `places` are the `replicas_paths` of all. Errors: Invalid, BadRequest."""
    paths = row.custom.scale if row.custom is not None else None
    managers = managed_fields.decode(parent["metadata"].get("managedFields"))
    scale = _scale_of(parent, paths)
    had_number = paths is None or _number(parent, paths.spec_replicas) is not None
    managed_fields.store(scale, scale_fields.to_scale(managers, places))
    changed = change(scale)
    if paths is not None and not had_number and "replicas" not in (changed.get("spec") or {}):
        raise BadRequest(f"the spec replicas field {faults.shown(paths.spec_replicas)} cannot be empty")
    made = scaled(parent, changed, paths)
    left = managed_fields.decode(changed["metadata"].get("managedFields"))
    managed_fields.store(made, scale_fields.to_parent(managers, left, places, row.api_version))
    return made


def scaled(parent: Object, scale: Object, paths: ScalePaths | None = None) -> Object:
    """The parent with the Scale's number, and its revision where the client named one. Errors: Invalid."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if replicas < 0:
        cause = faults.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid(SCALES.group, SCALES.kind, parent["metadata"]["name"], [cause])
    asked = scale.get("metadata") or {}
    based_on = {key: asked[key] for key in ("resourceVersion", "uid") if asked.get(key)}
    metadata = {key: value for key, value in parent["metadata"].items() if key != "resourceVersion"}
    if paths is not None:
        changed = {**copied(parent), "metadata": {**metadata, **based_on}}
        _set(changed, paths.spec_replicas, replicas)
        return changed
    return {
        **parent,
        "metadata": {**metadata, **based_on},
        "spec": {**(parent.get("spec") or {}), "replicas": replicas},
    }


def _set(obj: Object, path: str, value: int) -> None:
    """Sets a field by its path in dots, making what is missing on the way."""
    *way, last = path.removeprefix(".").split(".")
    for step in way:
        obj = obj.setdefault(step, {})
    obj[last] = value
