"""The scale subresource: one number of several kinds, seen as an autoscaling/v1 Scale.

Reading makes a Scale of the parent; writing takes `spec.replicas` of the Scale into the parent and nothing else. The
kinds are those with `spec.replicas` and a selector: Deployment, ReplicaSet, StatefulSet, ReplicationController.
Source: autoscaling/v1 Scale.
"""

from __future__ import annotations

from orchestrator.api import selectors
from orchestrator.api.kinds import faults
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource
from orchestrator.api.status import invalid

SCALES = Resource("autoscaling", "v1", "scales", "Scale")
_SHARED_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(parent: Object) -> Object:
    spec, status = parent.get("spec") or {}, parent.get("status") or {}
    selector = spec.get("selector") or {}
    if parent.get("kind") == "ReplicationController":
        text = str(selectors.from_labels(selector))
    else:
        text = str(selectors.from_json(selector))
    shown = {"replicas": status.get("replicas", 0), **({"selector": text} if text else {})}
    return {
        "kind": SCALES.kind,
        "apiVersion": SCALES.api_version,
        "metadata": {key: parent["metadata"][key] for key in _SHARED_METADATA if key in parent["metadata"]},
        "spec": {"replicas": spec.get("replicas", 0)},
        "status": shown,
    }


def scaled(parent: Object, scale: Object) -> Object:
    """The parent with the Scale's number, and its revision where the client named one. Errors: Invalid."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if replicas < 0:
        cause = faults.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid(SCALES.group, SCALES.kind, parent["metadata"]["name"], [cause])
    asked = scale.get("metadata") or {}
    based_on = {key: asked[key] for key in ("resourceVersion", "uid") if asked.get(key)}
    metadata = {key: value for key, value in parent["metadata"].items() if key != "resourceVersion"}
    return {
        **parent,
        "metadata": {**metadata, **based_on},
        "spec": {**(parent.get("spec") or {}), "replicas": replicas},
    }
