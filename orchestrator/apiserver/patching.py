"""PATCH: the three kinds of patch, which change what is there, and server-side apply, which may also create it.

Errors are ApiErrors: UnsupportedMediaType for what is no kind of patch, else those of the merge and of the write.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.api import decoding
from orchestrator.api.kinds import faults
from orchestrator.api.meta import Object
from orchestrator.api.patch import apply as server_side_apply
from orchestrator.api.patch import request as patch_request
from orchestrator.api.patch.field_sets import FieldSet
from orchestrator.api.patch.managed_fields import Writer
from orchestrator.api.resources import Resource
from orchestrator.api.schema import Type
from orchestrator.api.status import BadRequest, UnsupportedMediaType, conflict, invalid
from orchestrator.api.wire import Response
from orchestrator.apiserver import body, encoding, options, writing
from orchestrator.apiserver.asked import Asked, check_may_create, prepare, written_answer
from orchestrator.apiserver.negotiation import Accepted
from orchestrator.apiserver.options import WriteOptions

# Kinds whose status may create the object by an apply: a status takes whether it may from the kind.
CREATED_BY_STATUS = frozenset({"services", "validatingadmissionpolicies.admissionregistration.k8s.io"})


async def patch(asked: Asked) -> Response:
    endpoint, info, attributes = asked.endpoint, asked.info, asked.attributes
    form = asked.accepted
    media_type = body.media_type(asked.request.headers)
    is_known = media_type in patch_request.MEDIA_TYPES
    if endpoint.resource.is_custom and (not is_known or media_type == patch_request.STRATEGIC_PATCH):
        raise UnsupportedMediaType(patch_request.NOT_OF_CUSTOM)
    if not is_known:
        raise UnsupportedMediaType("415: Unsupported Media Type")
    write = prepare(asked, "PatchOptions")
    body.check_size(asked.request)
    if media_type == patch_request.APPLY_PATCH:
        return await _apply(asked, write, form)
    if asked.request.param("force"):
        cause = faults.forbidden("force", "may not be specified for non-apply patch")
        raise invalid(options.META, "PatchOptions", "", [cause])
    before = list(attributes.warnings)

    async def change(old: Object) -> Object:
        served = endpoint.to_served(old)
        new, found = patch_request.patched(
            served, asked.request.body, media_type, endpoint.resource, write.field_validation
        )
        attributes.warnings[:] = [*before, *found]  # they are told with a refusal too
        if media_type != patch_request.STRATEGIC_PATCH:  # whose result is read as what it is patched to be only later
            writing.check_kind(endpoint, new)
        writing.check_names(endpoint, new, info.namespace, info.name, is_named=True)
        writing.check_kind(endpoint, new)
        return endpoint.to_stored(new)

    done = await writing.update(asked.core, endpoint, attributes, write, change, is_patch=True)
    return await written_answer(asked, form, done)


async def _apply(asked: Asked, write: WriteOptions, form: Accepted) -> Response:
    endpoint, info, attributes = asked.endpoint, asked.info, asked.attributes
    wanted = wanted_of(asked)
    if endpoint.type is None:
        raise UnsupportedMediaType(f"server-side apply is not supported for {endpoint.resource.group_resource}")
    ignored = endpoint.rules.reset_fields(info.subresource)
    merged = merging(asked, write, wanted, endpoint.resource, endpoint.type, ignored)

    async def change(old: Object) -> Object:
        return endpoint.to_stored(merged(endpoint.to_served(old)))

    may_create = not info.subresource or (
        info.subresource == "status" and endpoint.stored.group_resource in CREATED_BY_STATUS
    )
    if may_create and endpoint.cache.get(info.namespace, info.name) is None:
        obj = merged(None)
        writing.asked_revision(obj)  # what is not there has none, but an answer to what is no number
        check_may_create(asked)
        if uid := (wanted.get("metadata") or {}).get("uid"):
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise conflict(endpoint.resource.group, endpoint.resource.plural, info.name, why)
        return await written_answer(
            asked,
            form,
            await writing.create(asked.core, endpoint, attributes, write, endpoint.to_stored(obj), applied=True),
        )
    done = await writing.update(asked.core, endpoint, attributes, write, change, applied=True, is_patch=True)
    return await written_answer(asked, form, done)


def wanted_of(asked: Asked) -> Object:
    """The configuration that is applied. Errors: Invalid, BadRequest."""
    if not asked.request.param("fieldManager"):
        cause = faults.required("fieldManager", "is required for apply patch")
        raise invalid(options.META, "PatchOptions", "", [cause])
    wanted = body.from_yaml(asked.request.body)
    if not isinstance(wanted, dict):
        raise BadRequest("error decoding YAML: the body is not an object")
    return wanted


def merging(
    asked: Asked, write: WriteOptions, wanted: Object, resource: Resource, kind: Type, ignored: FieldSet
) -> Callable[[Object | None], Object]:
    """From what there is (None: nothing) to what it becomes by the apply; `resource` and `kind` are what is applied."""
    writer = Writer(write.field_manager, resource.api_version, asked.core.now(), asked.info.subresource)
    text = encoding.encode_as_is(wanted)
    repeats = body.repeated_keys(asked.request) if write.field_validation != "Ignore" else []
    asked.attributes.warnings += repeats

    def merged(live: Object | None) -> Object:
        new = server_side_apply.apply(
            live, encoding.decode(text), resource, kind, writer, force=write.force, ignored=ignored
        )
        if repeats and write.field_validation == "Strict":  # after the merge, whose faults come first
            why = f"error converting YAML to JSON: {decoding.yaml_error(repeats)}"
            raise BadRequest(f"error strict decoding YAML: {why}")
        writing.check_names(asked.endpoint, new, asked.info.namespace, asked.info.name, is_named=True)
        return new

    return merged
