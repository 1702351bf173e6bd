"""The scale subresource: one number of several kinds, seen as an autoscaling/v1 Scale.

Reading makes a Scale of the parent; writing takes `spec.replicas` of the Scale into the parent and nothing else. The
kinds are those with `spec.replicas` and a selector: Deployment, ReplicaSet, StatefulSet, ReplicationController, and
custom resources whose definition says where the numbers are.
Source: autoscaling/v1 Scale.
"""

from __future__ import annotations

from orchestrator.api import selectors
from orchestrator.api.custom import ScalePaths
from orchestrator.api.kinds import faults
from orchestrator.api.meta import Object, copied
from orchestrator.api.resources import Resource
from orchestrator.api.status import InternalError, invalid
from orchestrator.api.structural import jsonpath

SCALES = Resource("autoscaling", "v1", "scales", "Scale")
_SHARED_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(parent: Object, paths: ScalePaths | None = None) -> Object:
    """`paths` are a custom resource's: where its definition says that the numbers are."""
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


def _scale(parent: Object, replicas: int, status: Object) -> Object:
    return {
        "kind": SCALES.kind,
        "apiVersion": SCALES.api_version,
        "metadata": {key: parent["metadata"][key] for key in _SHARED_METADATA if key in parent["metadata"]},
        "spec": {"replicas": replicas},
        "status": status,
    }


def _custom_scale(parent: Object, paths: ScalePaths) -> Object:
    def number(path: str) -> int | None:
        found = next(iter(jsonpath.find(parent, path)), None)
        return found if isinstance(found, int) else None

    wanted = number(paths.spec_replicas)
    if wanted is None:
        raise InternalError(f"the spec replicas field {faults.shown(paths.spec_replicas)} does not exist")
    status: Object = {"replicas": number(paths.status_replicas) or 0}
    if paths.selector and (text := next(iter(jsonpath.find(parent, paths.selector)), "")):
        status["selector"] = str(text)
    return _scale(parent, wanted, status)


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
