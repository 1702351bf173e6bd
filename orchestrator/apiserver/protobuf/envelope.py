"""Envelopes of a message: the body of a request or an answer, a list of objects, an event of a watch.

A body is the magic `k8s\\0` and a runtime.Unknown: 1 the type (1 apiVersion, 2 kind), 2 the object's own message, 3 and
4 the encoding and type of its content, which are empty. A list's message is 1 its metadata and 2 an object, repeated.
An event of a watch is its length in four bytes, big end first, and a WatchEvent without the magic: 1 its type, 2 a
RawExtension, whose field 1 is a whole body. Source: apimachinery runtime.Unknown, meta/v1 WatchEvent, util/framer.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from orchestrator.apiserver.protobuf.wire import Malformed, delimited, fields, text_or_bytes, varint

MAGIC = b"k8s\x00"
_FIRST, _SECOND = b"\x0a", b"\x12"  # tags of fields 1 and 2 with a length
_END = b"\x1a\x00\x22\x00"  # fields 3 and 4, of length 0


@lru_cache(maxsize=1024)
def _start(api_version: str, kind: str) -> bytes:
    names = delimited(_FIRST, api_version.encode()) + delimited(_SECOND, kind.encode())
    return MAGIC + delimited(_FIRST, names)


def closed(api_version: str, kind: str, message: bytes) -> bytes:
    return b"".join((_start(api_version, kind), _SECOND, varint(len(message)), message, _END))


def opened(body: bytes) -> tuple[str, str, bytes]:
    """(apiVersion, kind, message); Malformed."""
    if not body.startswith(MAGIC):
        raise Malformed("the magic number is missing")
    api_version = kind = raw = b""
    for number, value in fields(body[len(MAGIC) :]):
        if number == 1:
            names = {number: text_or_bytes(text) for number, text in fields(text_or_bytes(value))}
            api_version, kind = names.get(1, b""), names.get(2, b"")
        elif number == 2:
            raw = text_or_bytes(value)
    return api_version.decode(), kind.decode(), raw


def closed_list(api_version: str, kind: str, metadata: bytes, items: Iterable[bytes]) -> bytes:
    """Copies the items but once, into the body."""
    pieces = [delimited(_FIRST, metadata)]
    for item in items:
        pieces += (_SECOND, varint(len(item)), item)
    size = sum(map(len, pieces))
    return b"".join((_start(api_version, kind), _SECOND, varint(size), *pieces, _END))


def event_frame(kind: bytes, body: bytes) -> bytes:
    """One event of a watch; `body` is its object's."""
    event = delimited(_FIRST, kind) + delimited(_SECOND, delimited(_FIRST, body))
    return len(event).to_bytes(4, "big") + event
