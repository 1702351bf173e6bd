"""Objects as bytes: encoded once, when written, and then only cut and joined.

A stored value is the object's JSON without its resource version, which nobody knows before the store has given it. All
values of a resource start with the same bytes, its **head**, up to the opening brace of `metadata`; the version goes in
right there, by joining three pieces. So a GET answers with bytes as they lie in the cache, a LIST joins them with
commas, and a watch event is an envelope around them.

    {"kind":"Pod","apiVersion":"v1","metadata":{ | "resourceVersion":"42", | "name":"web",…},"spec":{…},…}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import yaml

from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"


def head_of(resource: Resource) -> bytes:
    return b'{"kind":"%s","apiVersion":"%s","metadata":{' % (resource.kind.encode(), resource.api_version.encode())


def encode(resource: Resource, obj: Object) -> bytes:
    """The value to store. `metadata` has at least a name."""
    metadata = obj["metadata"]
    if "resourceVersion" in metadata:
        metadata = {key: value for key, value in metadata.items() if key != "resourceVersion"}
    ordered: dict[str, Any] = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    for key, value in obj.items():
        if key not in ordered:
            ordered[key] = value
    return orjson.dumps(ordered)


def encode_as_is(obj: Object) -> bytes:
    """An answer that is not stored."""
    return orjson.dumps(obj)


def with_revision(value: bytes, head: bytes, revision: int) -> bytes:
    cut = len(head)
    return b'%s"resourceVersion":"%d",%s' % (head, revision, value[cut:])


def at_revision(data: bytes, head: bytes, old: int, new: int) -> bytes:
    """Bytes that carry the revision `old`, carrying `new`: what the event of a deletion shows."""
    cut = len(head) + len(b'"resourceVersion":"",') + len(str(old))
    return b'%s"resourceVersion":"%d",%s' % (head, new, data[cut:])


def decode(data: bytes) -> Object:
    found: Object = orjson.loads(data)
    return found


def list_metadata(revision: int, continue_token: str = "", remaining: int = 0) -> dict[str, Any]:
    metadata: dict[str, Any] = {"resourceVersion": str(revision)}
    if continue_token:
        metadata["continue"] = continue_token
        if remaining:
            metadata["remainingItemCount"] = remaining
    return metadata


def list_body(
    kind: str, api_version: str, metadata: dict[str, Any], items: Iterable[bytes], head: bytes = b""
) -> bytes:
    """With `head`, items go without the kind and version that they begin with, since the list's kind says theirs.
    Nothing is copied but into the body: of 2,000 Pods in 1 ms, where a second copy of each takes 10."""
    start = orjson.dumps({"kind": kind, "apiVersion": api_version, "metadata": metadata})[:-1]
    pieces: list[bytes | memoryview] = [start, b',"items":[']
    for item in items:
        if head and item.startswith(head):
            pieces += (b'{"metadata":{', memoryview(item)[len(head) :], b",")
        else:
            pieces += (item, b",")
    if pieces[-1] == b",":
        pieces.pop()
    pieces.append(b"]}")
    return b"".join(pieces)


def event_frame(kind: bytes, data: bytes) -> bytes:
    """One line of a watch."""
    return b'{"type":"%s","object":%s}\n' % (kind, data)


def to_yaml(data: bytes) -> bytes:
    return yaml.dump(orjson.loads(data), Dumper=_Dumper, default_flow_style=False, sort_keys=True).encode()


_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
