"""Watch frames: one JSON object a line, `{"type": "ADDED", "object": {…}}`, decoded as the bytes come in.

Types are ADDED, MODIFIED, DELETED and BOOKMARK; an ERROR frame carries a Status and is raised as its error (`Expired`
when the revision asked for is compacted away). The iteration ends when the server ends the watch, which is ordinary: a
watcher goes on from the last revision that it saw. Source: API concepts, "Efficient detection of changes"; KEP-956.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import orjson

from orchestrator.api import status
from orchestrator.api.meta import Object

ADDED = "ADDED"
MODIFIED = "MODIFIED"
DELETED = "DELETED"
BOOKMARK = "BOOKMARK"
ERROR = "ERROR"
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class WatchEvent(NamedTuple):
    type: str
    object: Object


class FrameDecoder:
    """Bytes in, events out; holds the unfinished line between chunks."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def feed(self, chunk: bytes) -> list[WatchEvent]:
        head, newline, tail = chunk.rpartition(b"\n")
        if not newline:
            self._rest.append(chunk)
            return []
        self._rest.append(head)
        whole = b"".join(self._rest)
        self._rest = [tail] if tail else []
        return [_event(line) for line in whole.split(b"\n") if line]


def _event(line: bytes) -> WatchEvent:
    frame: dict[str, Any] = orjson.loads(line)
    kind, obj = frame["type"], frame["object"]
    if kind == ERROR:
        raise status.from_status(obj)
    return WatchEvent(kind, obj)


async def decode(chunks: AsyncIterator[bytes]) -> AsyncIterator[WatchEvent]:
    decoder = FrameDecoder()
    async for chunk in chunks:
        for event in decoder.feed(chunk):
            yield event


def ends_initial_events(event: WatchEvent) -> bool:
    """Whether this is the bookmark after the state that `sendInitialEvents` asked for."""
    if event.type != BOOKMARK:
        return False
    annotations = (event.object.get("metadata") or {}).get("annotations") or {}
    return annotations.get(INITIAL_EVENTS_END) == "true"
