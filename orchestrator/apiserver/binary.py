"""Objects as protobuf: encoded when a client first asks for them so, and kept beside their JSON in the watch cache.

A renderer makes of an entry the bytes that clients get; there is one for each endpoint and one for each version of
PartialObjectMetadata, so that the frames of a watch, which are kept by renderer, are shared by all who watch alike. The
message of an entry is kept on it (a Pod of 4.4 KB JSON: 3 KB), so it is made once a revision: GET puts an envelope
around it, LIST joins messages, a watch frames it, and its first field is what PartialObjectMetadata is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec
import orjson

from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource
from orchestrator.apiserver import encoding
from orchestrator.apiserver.conversion import Conversion
from orchestrator.apiserver.protobuf import envelope, wire
from orchestrator.apiserver.protobuf.encoding import message
from orchestrator.apiserver.protobuf.table import META, message_name
from orchestrator.apiserver.resourcecache import Entry

TOGETHER = 100  # objects that are encoded before others get their turn, about 10 ms


class Binary:
    """Renders the objects of one kind."""

    def __init__(self, api_version: str, kind: str, list_kind: str) -> None:
        self._api_version = api_version
        self._kind = kind
        self._list_kind = list_kind

    def message(self, entry: Entry, data: bytes) -> bytes:
        """Of an entry and its JSON, which for a deletion is not quite the entry's own."""
        raise NotImplementedError

    def __call__(self, entry: Entry, data: bytes) -> bytes:
        return envelope.closed(self._api_version, self._kind, self.message(entry, data))

    def listed(self, entries: Iterable[Entry], metadata: dict[str, Any]) -> bytes:
        messages = (self.message(entry, entry.data) for entry in entries)
        return envelope.closed_list(self._api_version, self._list_kind, message(META + "ListMeta")(metadata), messages)

    async def prepare(self, entries: Iterable[Entry]) -> None:
        """Encodes what is kept and nobody asked for yet, before `entries` are listed or shown."""


class BinaryObjects(Binary):
    """Whole objects, as their endpoint serves them; messages are kept where those are as stored."""

    def __init__(self, resource: Resource, conversion: Conversion | None) -> None:
        super().__init__(resource.api_version, resource.kind, resource.list_kind)
        self._conversion = conversion

    def message(self, entry: Entry, data: bytes) -> bytes:
        if self._conversion is not None:
            return self._write(self._conversion.to_served(encoding.decode(data)))
        if data is not entry.data:
            return self._write(orjson.loads(data))
        if entry.binary is None:
            entry.binary = self._write(orjson.loads(data))
        return entry.binary

    def _write(self, obj: Object) -> bytes:
        name = message_name(self._api_version, self._kind)
        assert name is not None, f"{self._kind} has no message"
        return message(name)(obj)

    async def prepare(self, entries: Iterable[Entry]) -> None:
        """With pauses: 5,000 Pods would take half a second of the event loop."""
        made = 0
        for entry in entries:
            if entry.binary is None and self._conversion is None:
                self.message(entry, entry.data)
                made += 1
                if made % TOGETHER == 0:
                    await asyncio.sleep(0)


class _Metadata(msgspec.Struct):
    metadata: dict[str, Any]


_metadata = msgspec.json.Decoder(_Metadata)


class BinaryMetadata(Binary):
    """PartialObjectMetadata, of any kind: its metadata has the number that each kind's has, and comes first there."""

    def __init__(self, version: str) -> None:
        super().__init__(f"meta.k8s.io/{version}", "PartialObjectMetadata", "PartialObjectMetadataList")

    def message(self, entry: Entry, data: bytes) -> bytes:
        if entry.binary is not None and data is entry.data:
            return wire.first_field(entry.binary)
        return message(META + "PartialObjectMetadata")({"metadata": _metadata.decode(data).metadata})


@cache
def metadata_of(version: str) -> BinaryMetadata:
    return BinaryMetadata(version)


def objects_of(resource: Resource, conversion: Conversion | None) -> BinaryObjects | None:
    """None for custom resources, which have no message."""
    return None if resource.is_custom else BinaryObjects(resource, conversion)
