"""Object metadata: an API object is the JSON it arrived as, a plain dict, and these functions read its usual fields.

A *key* is `namespace/name`, or `name` for a cluster-scoped object: what informers, work queues and logs carry.
Times on the wire are RFC 3339 in UTC: whole seconds (`Time`) or microseconds (`MicroTime`); in the program they are
seconds since the epoch as float. Source: API conventions, "Metadata"; meta/v1 ObjectMeta.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

Object = dict[str, Any]
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"  # on the API's copy of a static pod: the uid that the kubelet uses


def copied(obj: Any) -> Any:
    """A deep copy by way of JSON: a tenth of the cost of `copy.deepcopy`."""
    return orjson.loads(orjson.dumps(obj))


def metadata(obj: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = obj.get("metadata") or {}
    return found


def name(obj: Mapping[str, Any]) -> str:
    return metadata(obj).get("name") or ""


def namespace(obj: Mapping[str, Any]) -> str:
    """The namespace, or "" for a cluster-scoped object."""
    return metadata(obj).get("namespace") or ""


def key(obj: Mapping[str, Any]) -> str:
    return join_key(namespace(obj), name(obj))


def join_key(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def split_key(key: str) -> tuple[str, str]:
    """(namespace, name); the namespace is "" for a cluster-scoped key."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def uid(obj: Mapping[str, Any]) -> str:
    return metadata(obj).get("uid") or ""


def labels(obj: Mapping[str, Any]) -> dict[str, str]:
    return metadata(obj).get("labels") or {}


def annotations(obj: Mapping[str, Any]) -> dict[str, str]:
    return metadata(obj).get("annotations") or {}


def resource_version(obj: Mapping[str, Any]) -> str:
    return metadata(obj).get("resourceVersion") or ""


def generation(obj: Mapping[str, Any]) -> int:
    return metadata(obj).get("generation") or 0


def finalizers(obj: Mapping[str, Any]) -> list[str]:
    return metadata(obj).get("finalizers") or []


def is_deleting(obj: Mapping[str, Any]) -> bool:
    return bool(metadata(obj).get("deletionTimestamp"))


def owner_references(obj: Mapping[str, Any]) -> list[dict[str, Any]]:
    return metadata(obj).get("ownerReferences") or []


def controller_of(obj: Mapping[str, Any]) -> dict[str, Any] | None:
    """The one owner reference that says `controller: true`, if any."""
    return next((ref for ref in owner_references(obj) if ref.get("controller")), None)


def is_controlled_by(obj: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == uid(owner)


def owner_reference(owner: Mapping[str, Any], *, controller: bool = True) -> dict[str, Any]:
    """The reference that a dependent of `owner` carries; a controller's also blocks the owner's foreground deletion."""
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name(owner), "uid": uid(owner)}
    return reference | {"controller": True, "blockOwnerDeletion": True} if controller else reference


def format_time(seconds: float) -> str:
    """`2026-01-02T03:04:05Z`."""
    return f"{datetime.fromtimestamp(int(seconds), UTC).isoformat()[:19]}Z"


def format_micro_time(seconds: float) -> str:
    """`2026-01-02T03:04:05.678901Z`."""
    return micro_time(datetime.fromtimestamp(seconds, UTC))


def micro_time(moment: datetime) -> str:
    """Of a moment in UTC. (strftime would not fill up the years before 1000, which a Go zero time is near.)"""
    return f"{moment.isoformat(timespec='microseconds')[:26]}Z"


def parse_time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time; ValueError where it is none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone")
    return moment.timestamp()
