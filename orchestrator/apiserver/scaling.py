"""The scale subresource: reads and writes of a Scale that become reads and writes of the object behind it."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.api import schema
from orchestrator.api.meta import Object
from orchestrator.api.patch import managed_fields
from orchestrator.api.patch import request as patch_request
from orchestrator.api.patch.managed_fields import Writer
from orchestrator.api.status import UnsupportedMediaType
from orchestrator.api.wire import Response
from orchestrator.apiserver import body, encoding, reading, writing
from orchestrator.apiserver.asked import Asked, decoded, object_answer, prepare
from orchestrator.apiserver.options import WriteOptions
from orchestrator.apiserver.patching import merging, wanted_of
from orchestrator.apiserver.scale import SCALES, replicas_paths, rescaled, scale_of


async def serve(asked: Asked) -> Response:
    core, endpoint, info, attributes = asked.core, asked.endpoint, asked.info, asked.attributes
    form = asked.accepted
    custom = endpoint.resource.custom
    paths = custom.scale if custom is not None else None
    if info.verb == "get":
        parent = encoding.decode(reading.find(endpoint, info.namespace, info.name).data)
        return object_answer(200, scale_of(endpoint.to_served(parent), paths), form)
    write = prepare(asked, "UpdateOptions" if info.verb == "update" else "PatchOptions")
    make = _changed_scale(asked, write)
    rows = (row for row in core.resources if row.group_resource == endpoint.resource.group_resource)
    places = replicas_paths(rows)

    async def change(old: Object) -> Object:
        return endpoint.to_stored(rescaled(endpoint.to_served(old), endpoint.resource, places, make))

    done = await writing.update(core, endpoint, attributes, write, change, applied=True, is_patch=info.verb == "patch")
    await endpoint.ready(core, (done.data,))
    scale = scale_of(endpoint.to_served(encoding.decode(done.data)), paths)
    return object_answer(200, scale, form, attributes.warnings)


def _changed_scale(asked: Asked, write: WriteOptions) -> Callable[[Object], Object]:
    """What the request makes of a Scale, with who owns what in it."""
    request, info, attributes = asked.request, asked.info, asked.attributes
    writer = Writer(write.field_manager, SCALES.api_version, asked.core.now(), info.subresource)
    kind = schema.type_of(SCALES)
    assert kind is not None
    media_type = body.media_type(request.headers)
    if info.verb == "update":
        obj, sent = body.read(request, SCALES.kind)
        text = encoding.encode_as_is(decoded(asked, SCALES, obj, sent, write))
    elif asked.endpoint.resource.is_custom and media_type == patch_request.STRATEGIC_PATCH:
        raise UnsupportedMediaType(patch_request.NOT_OF_CUSTOM)
    elif media_type == patch_request.APPLY_PATCH:
        return merging(asked, write, wanted_of(asked), SCALES, kind, managed_fields.NO_FIELDS)

    def changed(scale: Object) -> Object:
        if info.verb == "update":
            new = encoding.decode(text)
        else:
            new, found = patch_request.patched(scale, request.body, media_type, SCALES, write.field_validation)
            attributes.warnings[:] = found
        managed_fields.record_update(scale, new, kind, writer)
        return new

    return changed
