"""Representations: the same objects as themselves, as PartialObjectMetadata, or as a Table.

Each form is a render function from an entry's bytes, used alike for GET, LIST and watch. The object itself is the bytes
as they are. PartialObjectMetadata cuts the metadata out of them. A Table decodes, since its cells are computed; its
rows carry the object's metadata, the whole object or nothing, as `includeObject` says. Protobuf renders the first two
into its own bytes (`binary.py`); all others are JSON, of which YAML is made last.
Source: meta/v1 Table, PartialObjectMetadata.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec
import orjson

from orchestrator.api.kinds.table import CREATED_AT, NAME
from orchestrator.api.kinds.workloads import TEMPLATE_GENERATION
from orchestrator.api.resources import DAEMONSETS, Resource
from orchestrator.api.status import BadRequest, Cause, NotAcceptable, invalid
from orchestrator.api.wire import Request
from orchestrator.apiserver import binary, encoding
from orchestrator.apiserver.binary import Binary
from orchestrator.apiserver.endpoint import Core, Endpoint
from orchestrator.apiserver.negotiation import METADATA, OBJECT, TABLE, Accepted
from orchestrator.apiserver.resourcecache import Entry, Render

META_V1 = "meta.k8s.io/"


class _Metadata(msgspec.Struct):
    metadata: msgspec.Raw


_metadata = msgspec.json.Decoder(_Metadata)


def partial(data: bytes, version: str = "v1") -> bytes:
    api_version = (META_V1 + version).encode()
    metadata = bytes(_metadata.decode(data).metadata)
    return b'{"kind":"PartialObjectMetadata","apiVersion":"%s","metadata":%s}' % (api_version, metadata)


class PartialRenderer:
    """PartialObjectMetadata of any kind, in JSON."""

    def __init__(self, version: str) -> None:
        self.version = version

    def __call__(self, entry: Entry, data: bytes) -> bytes:
        return partial(data, self.version)


@cache
def _partial(version: str) -> PartialRenderer:
    return PartialRenderer(version)


class TableRenderer:
    """Rows of one resource. A watch sends the columns with its first row only, so a renderer belongs to one request."""

    def __init__(self, core: Core, endpoint: Endpoint, include: str, version: str) -> None:
        self._now = core.clock.now
        self._endpoint = endpoint
        self._include = include
        self._version = version
        self._has_sent_columns = False

    def row(self, data: bytes) -> dict[str, Any]:
        obj = encoding.decode(data)
        row: dict[str, Any] = {"cells": self._endpoint.rules.cells(obj, self._now())}
        if self._include == "Metadata":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": META_V1 + self._version,
                "metadata": _of_table(self._endpoint.stored, obj["metadata"]),
            }
        elif self._include == "Object":
            row["object"] = self._endpoint.to_served(obj)
        return row

    def table(self, rows: list[dict[str, Any]], metadata: dict[str, Any]) -> bytes:
        resource = self._endpoint.stored.group_resource
        columns = None if self._has_sent_columns else [c.to_json(resource) for c in self._endpoint.rules.columns]
        self._has_sent_columns = True
        return orjson.dumps(
            {
                "kind": "Table",
                "apiVersion": META_V1 + self._version,
                "metadata": metadata,
                "columnDefinitions": columns,
                "rows": rows or (None if self._endpoint.rules.columns == (NAME, CREATED_AT) else []),
            }
        )

    def bookmark(self, metadata: dict[str, Any]) -> bytes:
        """An object that has this metadata and nothing else, in a row: where clients look for the annotation."""
        resource = self._endpoint.stored
        row = self.row(encoding.encode_as_is(
            {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        ))  # fmt: skip
        return self.table([row], {"resourceVersion": metadata["resourceVersion"]})

    def __call__(self, entry: Entry, data: bytes) -> bytes:
        row = self.row(data)
        revision = str((row.get("object") or {}).get("metadata", {}).get("resourceVersion", entry.revision))
        return self.table([row], {"resourceVersion": revision})


def _of_table(resource: Resource, metadata: dict[str, Any]) -> dict[str, Any]:
    """Tables show objects as kube-apiserver has them inside, where what has become a field of a DaemonSet is none of
    its annotations any more."""
    annotations = metadata.get("annotations") or {}
    if resource.group_resource != DAEMONSETS.group_resource or TEMPLATE_GENERATION not in annotations:
        return metadata
    left = {name: value for name, value in annotations.items() if name != TEMPLATE_GENERATION}
    metadata = {name: value for name, value in metadata.items() if name != "annotations"}
    return {**metadata, "annotations": left} if left else metadata


def check_metadata(accepted: Accepted, resource: Resource, *, is_list: bool) -> None:
    """Metadata of a list is asked for by another name than that of an object. NotAcceptable in upstream's words, which
    name the Go type; `resource` is what the object is stored as."""
    if accepted.form != METADATA or accepted.of_list == is_list:
        return
    name = f"{resource.group.partition('.')[0] or 'core'}.{resource.list_kind if is_list else resource.kind}"
    if resource.is_custom:
        name = "unstructured.UnstructuredList" if is_list else "unstructured.Unstructured"
    asked, given = ("", "a list") if is_list else ("List", "not a list")
    raise NotAcceptable(f"you requested PartialObjectMetadata{asked}, but the requested object is {given} (*{name})")


def renderer(core: Core, endpoint: Endpoint, accepted: Accepted, request: Request) -> Render | None:
    """The function that renders one object for this request; None where its bytes are the answer."""
    if accepted.form == TABLE:
        include = request.param("includeObject") or "Metadata"
        if include not in ("None", "Metadata", "Object"):
            detail = f'Unsupported value: "{include}": supported values: "Metadata", "None", "Object"'
            raise invalid("meta.k8s.io", "TableOptions", "", [Cause("includeObject", "FieldValueNotSupported", detail)])
        return TableRenderer(core, endpoint, include, accepted.version)
    if accepted.form == METADATA:
        is_binary = accepted.media_type == encoding.PROTOBUF
        return binary.metadata_of(accepted.version) if is_binary else _partial(accepted.version)
    if accepted.form != OBJECT:
        raise BadRequest(f"no {accepted.form} of {endpoint.resource.group_resource}")
    if accepted.media_type == encoding.PROTOBUF:
        return endpoint.binary
    return endpoint.rendered if endpoint.conversion else None


def list_document(
    endpoint: Endpoint,
    entries: Iterable[Entry],
    render: Render | None,
    revision: int,
    continue_token: str,
    remaining: int,
) -> bytes:
    metadata = encoding.list_metadata(revision, continue_token, remaining)
    if endpoint.resource.is_custom and not isinstance(render, TableRenderer | PartialRenderer):
        metadata.setdefault("continue", "")  # lists of custom resources always say
    if isinstance(render, Binary):
        return render.listed(entries, metadata)
    if isinstance(render, TableRenderer):
        return render.table([render.row(entry.data) for entry in entries], metadata)
    kind, version = endpoint.resource.list_kind, endpoint.resource.api_version
    if isinstance(render, PartialRenderer):
        kind, version = "PartialObjectMetadataList", META_V1 + render.version
    if isinstance(render, PartialRenderer) and not entries:
        return encoding.encode_as_is({"kind": kind, "apiVersion": version, "metadata": metadata, "items": None})
    items = (render(entry, entry.data) for entry in entries) if render else (entry.data for entry in entries)
    is_typed = isinstance(render, PartialRenderer) or endpoint.resource.is_custom
    head = b"" if is_typed else encoding.head_of(endpoint.resource)
    return encoding.list_body(kind, version, metadata, items, head)
