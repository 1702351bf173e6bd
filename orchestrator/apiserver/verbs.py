"""Resource requests: from a RequestInfo and a body to the function that does the work, and its result to a Response.

One function a verb, the same for every kind. Handlers from the tables come first, then the scale subresource, then the
generic verbs. Errors are ApiErrors, rendered by the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.api import decoding, schema
from orchestrator.api.kinds import faults
from orchestrator.api.kinds import metadata as metadata_rules
from orchestrator.api.meta import Object
from orchestrator.api.patch import apply as server_side_apply
from orchestrator.api.patch import managed_fields
from orchestrator.api.patch import request as patch_request
from orchestrator.api.patch.field_sets import FieldSet
from orchestrator.api.patch.managed_fields import Writer
from orchestrator.api.resources import Resource
from orchestrator.api.schema import Type
from orchestrator.api.status import (
    ApiError,
    BadRequest,
    MethodNotAllowed,
    NotFound,
    UnsupportedMediaType,
    conflict,
    invalid,
)
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver import body, deletion, encoding, options, reading, selection, warning, watching, writing
from orchestrator.apiserver.authz.message import refusal
from orchestrator.apiserver.endpoint import Core, Endpoint
from orchestrator.apiserver.handlers import Upgrade
from orchestrator.apiserver.negotiation import ENCODINGS, FORMS, METADATA, OBJECT, STREAMS, Accepted, accepted
from orchestrator.apiserver.options import WriteOptions
from orchestrator.apiserver.protobuf.encoding import encode
from orchestrator.apiserver.representation import META_V1, check_metadata, list_document, renderer
from orchestrator.apiserver.request import Attributes, Authorizer, RequestInfo
from orchestrator.apiserver.resourcecache import Entry
from orchestrator.apiserver.scale import SCALES, replicas_paths, rescaled, scale_of

JSON_HEADERS: Mapping[str, str] = {"content-type": encoding.JSON}
YAML_HEADERS: Mapping[str, str] = {"content-type": encoding.YAML}
BINARY_HEADERS: Mapping[str, str] = {"content-type": encoding.PROTOBUF}
BINARY_WATCH_HEADERS: Mapping[str, str] = {"content-type": f"{encoding.PROTOBUF};stream=watch"}
# Kinds whose PUT may create: upstream's AllowCreateOnUpdate.
CREATED_BY_PUT = frozenset(
    {
        "endpoints", "events", "limitranges", "services", "leases.coordination.k8s.io", "runtimeclasses.node.k8s.io",
        "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io",
        "clusterroles.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io",
    }
)  # fmt: skip
# Kinds whose status may create the object, by an apply or by a PUT too: a status takes whether it may from the kind.
CREATED_BY_STATUS = frozenset({"services", "validatingadmissionpolicies.admissionregistration.k8s.io"})
HANDLED = (OBJECT, METADATA)  # the forms of what is not stored: it has no columns
NOT_ALLOWED = "the server does not allow this method on the requested resource"
NOT_SERVED = "the server could not find the requested resource"


class Asked(Struct):
    """One resource request that may go on."""

    core: Core
    endpoint: Endpoint
    request: Request
    info: RequestInfo
    attributes: Attributes
    authorizer: Authorizer

    @property
    def accepted(self) -> Accepted:
        return self.accepted_as(FORMS)

    def accepted_as(self, forms: tuple[str, ...]) -> Accepted:
        route: tuple[str, ...] = ()
        if not self.endpoint.resource.is_custom:
            route = (*ENCODINGS, *STREAMS) if self.info.verb in ("list", "watch") else ENCODINGS
        return accepted(self.request.headers.get("accept", ""), forms, self.endpoint.encodings, route)


class UpgradeResponse(Response, kw_only=True):
    """An answer that takes the connection; only the network rim can serve it."""

    upgrade: Upgrade
    status: int = 101


def check_served(endpoint: Endpoint, info: RequestInfo) -> None:
    """405 for a verb that the resource does not have, 404 for a subresource that it does not have."""
    resource = endpoint.resource
    if info.subresource:
        found = resource.subresource(info.subresource)
        if found is None:
            raise NotFound(NOT_SERVED)
        is_relayed = found.name == "proxy" and not info.verb  # any method, OPTIONS too: what it means is told behind
        if info.verb not in found.verbs and not is_relayed:
            raise MethodNotAllowed(NOT_ALLOWED)
        return
    if info.verb not in resource.verbs:
        raise MethodNotAllowed(NOT_ALLOWED)
    across = resource.namespaced and not info.namespace
    if (across and info.verb not in ("list", "watch")) or (info.verb == "create" and info.name):
        raise MethodNotAllowed(NOT_ALLOWED)


async def serve(asked: Asked) -> Response:
    """The answer of the generic verbs."""
    info = asked.info
    if info.subresource == "scale":
        return await _scale(asked)
    verb = _VERBS.get(info.verb)
    if verb is None:
        raise MethodNotAllowed(NOT_ALLOWED)
    return await verb(asked)


# -- reads -------------------------------------------------------------------------------------------------------------


async def _get(asked: Asked) -> Response:
    info, form = asked.info, asked.accepted
    data = await reading.get(asked.core, asked.endpoint, asked.request, info.namespace, info.name, form)
    return _answer(200, data, form)


async def _list(asked: Asked) -> Response:
    form = asked.accepted
    data = await reading.list_objects(asked.core, asked.endpoint, asked.request, asked.info.namespace, form)
    return _answer(200, data, form)


async def _watch(asked: Asked) -> Response:
    info, form = asked.info, asked.accepted
    name = info.name if "fieldSelector" not in dict(asked.request.query) else ""
    stream = await watching.watch(asked.core, asked.endpoint, asked.request, info.namespace, form, name=name)
    return Response(200, dict(BINARY_WATCH_HEADERS if form.media_type == encoding.PROTOBUF else JSON_HEADERS), stream)


def object_answer(code: int, obj: Object, form: Accepted, warnings: list[str] | None = None) -> Response:
    """The answer of an object that is not stored."""
    if form.form == METADATA and obj.get("kind") != "Status":
        group, _, version = obj.get("apiVersion", "").rpartition("/")
        check_metadata(form, Resource(group, version, "", obj["kind"], False), is_list=False)
        obj = {"kind": "PartialObjectMetadata", "apiVersion": META_V1 + form.version, "metadata": obj.get("metadata")}
    data = encode(obj) if form.media_type == encoding.PROTOBUF else encoding.encode_as_is(obj)
    return _answer(code, data, form, warnings)


def _answer(code: int, data: bytes, form: Accepted, warnings: list[str] | None = None) -> Response:
    """`data` is protobuf where the client wants that, else JSON."""
    headers = JSON_HEADERS
    if form.media_type == encoding.PROTOBUF:
        headers = BINARY_HEADERS
    elif form.media_type != encoding.JSON:
        data, headers = encoding.to_yaml(data), YAML_HEADERS
    return warned(Response(code, dict(headers), data), *(warnings or ()))


def warned(answer: Response, *texts: str) -> Response:
    """The answer with more warnings, the first."""
    others = [answer.headers["warning"]] if "warning" in answer.headers else []
    if told := [*warning.values(texts), *others]:
        answer.headers["warning"] = ", ".join(told)
    return answer


# -- writes ------------------------------------------------------------------------------------------------------------


def decoded(asked: Asked, resource: Resource, obj: Object, text: bytes, write: WriteOptions) -> Object:
    """Checks the body against its schema, in place."""
    repeats = body.repeated_keys(asked.request) if write.field_validation != "Ignore" else []
    asked.attributes.warnings += decoding.check(obj, resource, write.field_validation, text, repeats)
    return obj


def _prepare(asked: Asked, kind: str) -> WriteOptions:
    write = options.write_options(asked.request, kind)
    asked.attributes.dry_run = write.dry_run
    asked.attributes.options = write.to_json(kind)
    return write


async def _create(asked: Asked) -> Response:
    endpoint, info, attributes = asked.endpoint, asked.info, asked.attributes
    form = asked.accepted
    write = _prepare(asked, "CreateOptions")
    obj, text = body.read(asked.request, asked.endpoint.resource.kind)
    writing.check_kind(endpoint, obj)
    decoded(asked, endpoint.resource, obj, text, write)
    writing.check_names(endpoint, obj, info.namespace, "")
    writing.drop_repeated_owners(obj, attributes)
    revision = obj["metadata"].get("resourceVersion") or ""
    if revision.isdecimal() and int(revision):  # what is no revision is no claim either
        raise ApiError("resourceVersion should not be set on objects to be created")
    made = await writing.create(asked.core, endpoint, attributes, write, endpoint.to_stored(obj))
    return await _written(asked, form, made)


async def _update(asked: Asked) -> Response:
    endpoint, info, attributes = asked.endpoint, asked.info, asked.attributes
    form = asked.accepted
    write = _prepare(asked, "UpdateOptions")
    first, text = body.read(asked.request, asked.endpoint.resource.kind)
    writing.check_kind(endpoint, first)
    decoded(asked, endpoint.resource, first, text, write)
    writing.check_names(endpoint, first, info.namespace, info.name, is_named=True)
    writing.drop_repeated_owners(first, attributes)
    canonical = encoding.encode_as_is(first)
    may_create = endpoint.stored.group_resource in CREATED_BY_PUT and info.subresource in ("", "status")
    if may_create and endpoint.cache.get(info.namespace, info.name) is None:
        return await _put_new(asked, form, write, first)

    async def change(old: Object) -> Object:
        return endpoint.to_stored(encoding.decode(canonical))

    return await _written(asked, form, await writing.update(asked.core, endpoint, attributes, write, change))


async def _put_new(asked: Asked, form: Accepted, write: WriteOptions, obj: Object) -> Response:
    """A PUT of what is not there creates it, where the kind allows that and the user may create."""
    attributes = asked.attributes
    _check_may_create(asked)
    for name in ("resourceVersion", "uid"):
        obj["metadata"].pop(name, None)
    return await _written(
        asked, form, await writing.create(asked.core, asked.endpoint, attributes, write, asked.endpoint.to_stored(obj))
    )


def _check_may_create(asked: Asked) -> None:
    """Forbidden where the user may change what is there and not make what is not."""
    as_create = replace(asked.attributes, verb="create")
    decision = asked.authorizer.authorize(as_create)
    if not decision.allowed:
        raise refusal(as_create, decision.reason)


async def _patch(asked: Asked) -> Response:
    endpoint, info, attributes = asked.endpoint, asked.info, asked.attributes
    form = asked.accepted
    write = _prepare(asked, "PatchOptions")
    body.check_size(asked.request)
    media_type = body.media_type(asked.request.headers)
    if media_type == patch_request.APPLY_PATCH:
        return await _apply(asked, write, form)
    if media_type not in patch_request.MEDIA_TYPES:
        raise UnsupportedMediaType("415: Unsupported Media Type")
    if endpoint.resource.is_custom and media_type == patch_request.STRATEGIC_PATCH:
        raise UnsupportedMediaType(patch_request.NOT_OF_CUSTOM)
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
        writing.check_kind(endpoint, new)
        writing.check_names(endpoint, new, info.namespace, info.name, is_named=True)
        return endpoint.to_stored(new)

    done = await writing.update(asked.core, endpoint, attributes, write, change, is_patch=True)
    return await _written(asked, form, done)


async def _apply(asked: Asked, write: WriteOptions, form: Accepted) -> Response:
    endpoint, info, attributes = asked.endpoint, asked.info, asked.attributes
    wanted = _wanted(asked)
    if endpoint.type is None:
        raise UnsupportedMediaType(f"server-side apply is not supported for {endpoint.resource.group_resource}")
    ignored = endpoint.rules.reset_fields(info.subresource)
    merged = _merging(asked, write, wanted, endpoint.resource, endpoint.type, ignored)

    async def change(old: Object) -> Object:
        return endpoint.to_stored(merged(endpoint.to_served(old)))

    may_create = not info.subresource or (
        info.subresource == "status" and endpoint.stored.group_resource in CREATED_BY_STATUS
    )
    if may_create and endpoint.cache.get(info.namespace, info.name) is None:
        obj = merged(None)
        _check_may_create(asked)
        if uid := (wanted.get("metadata") or {}).get("uid"):
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise conflict(endpoint.resource.group, endpoint.resource.plural, info.name, why)
        return await _written(
            asked,
            form,
            await writing.create(asked.core, endpoint, attributes, write, endpoint.to_stored(obj), applied=True),
        )
    done = await writing.update(asked.core, endpoint, attributes, write, change, applied=True, is_patch=True)
    return await _written(asked, form, done)


def _wanted(asked: Asked) -> Object:
    """The configuration that is applied. Errors: Invalid, BadRequest."""
    if not asked.request.param("fieldManager"):
        cause = faults.required("fieldManager", "is required for apply patch")
        raise invalid(options.META, "PatchOptions", "", [cause])
    wanted = body.from_yaml(asked.request.body)
    if not isinstance(wanted, dict):
        raise BadRequest("error decoding YAML: the body is not an object")
    return wanted


def _merging(
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


async def _written(asked: Asked, form: Accepted, written: writing.Written) -> Response:
    data = written.data
    await asked.endpoint.ready(asked.core, (data,))
    if not form.is_plain or asked.endpoint.conversion is not None:
        check_metadata(form, asked.endpoint.stored, is_list=False)
        render = renderer(asked.core, asked.endpoint, form, asked.request)
        if render is not None:
            cache = asked.endpoint.cache
            namespace, name = asked.info.namespace, asked.attributes.name
            entry = cache.get(namespace, name)
            if entry is None or entry.data != data:  # a dry run, or someone wrote since
                entry = Entry(cache.key(namespace, name), namespace, name, data, 0, 0, cache.picker)
            data = render(entry, entry.data)
    return _answer(201 if written.is_created else 200, data, form, asked.attributes.warnings)


# -- deletion ----------------------------------------------------------------------------------------------------------


async def _delete(asked: Asked) -> Response:
    endpoint, form = asked.endpoint, asked.accepted
    wanted = options.delete_options(asked.request)
    asked.attributes.dry_run, asked.attributes.options = wanted.dry_run, wanted.to_json()
    deleted = await deletion.delete(asked.core, endpoint, asked.attributes, wanted)
    if deleted.is_removed and endpoint.stored.group_resource not in deletion.ANSWERS_OBJECT:
        status = deletion.success(endpoint, asked.info.name, deleted.uid)
        return object_answer(200, status, form, asked.attributes.warnings)
    return await _written(asked, form, writing.Written(deleted.data))


async def _delete_collection(asked: Asked) -> Response:
    endpoint, form = asked.endpoint, asked.accepted
    wanted = options.delete_options(asked.request)
    asked.attributes.dry_run, asked.attributes.options = wanted.dry_run, wanted.to_json()
    listed = options.list_options(asked.request, watch=False)
    selected = selection.parse(listed.label_selector, listed.field_selector, endpoint.picker)
    page = await reading.select(asked.core, endpoint, listed, selected, asked.info.namespace)
    items = await deletion.delete_collection(asked.core, endpoint, page.entries, asked.attributes, wanted)
    await endpoint.ready(asked.core, items)
    check_metadata(form, endpoint.stored, is_list=True)
    cache = endpoint.cache
    gone = [Entry("", asked.info.namespace, "", item, 0, 0, cache.picker) for item in items]
    render = renderer(asked.core, endpoint, form, asked.request)
    return _answer(200, list_document(endpoint, gone, render, asked.core.cache.revision, "", 0), form)


# -- scale -------------------------------------------------------------------------------------------------------------


async def _scale(asked: Asked) -> Response:
    core, endpoint, info, attributes = asked.core, asked.endpoint, asked.info, asked.attributes
    form = asked.accepted
    custom = endpoint.resource.custom
    paths = custom.scale if custom is not None else None
    if info.verb == "get":
        parent = encoding.decode(reading.find(endpoint, info.namespace, info.name).data)
        return object_answer(200, scale_of(endpoint.to_served(parent), paths), form)
    write = _prepare(asked, "UpdateOptions" if info.verb == "update" else "PatchOptions")
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
    elif media_type == patch_request.APPLY_PATCH:
        return _merging(asked, write, _wanted(asked), SCALES, kind, managed_fields.NO_FIELDS)

    def changed(scale: Object) -> Object:
        if info.verb == "update":
            new = encoding.decode(text)
        else:
            new, found = patch_request.patched(scale, request.body, media_type, SCALES, write.field_validation)
            attributes.warnings[:] = found
        managed_fields.record_update(scale, new, kind, writer)
        return new

    return changed


# -- handlers ----------------------------------------------------------------------------------------------------------


def handler_body(asked: Asked) -> None:
    """Decodes the body that a handler works on into the attributes: the subresource's kind, or the resource's own."""
    endpoint, info, attributes = asked.endpoint, asked.info, asked.attributes
    if info.verb not in ("create", "update") or not asked.request.body:
        return
    asked.accepted_as(HANDLED)  # refused before anything is done
    write = _prepare(asked, "CreateOptions" if info.verb == "create" else "UpdateOptions")
    found = endpoint.resource.subresource(info.subresource)
    kind = found.kind if found and found.kind else endpoint.resource.kind
    api_version = found.group_version if found and found.group_version else endpoint.resource.api_version
    obj, text = body.read(asked.request, kind)
    group, _, version = (obj.get("apiVersion") or api_version).rpartition("/")
    resource = Resource(group, version, info.resource, kind, endpoint.resource.namespaced)
    obj["kind"], obj["apiVersion"] = obj.get("kind") or kind, obj.get("apiVersion") or api_version
    if obj["kind"] != kind or schema.type_of_kind(group, version, kind) is None:
        raise BadRequest(writing.not_this(obj.get("apiVersion") or api_version, obj["kind"], resource))
    if schema.type_of(resource) is not None:
        decoded(asked, resource, obj, text, write)
    if endpoint.resource.namespaced:
        metadata = obj.setdefault("metadata", {})
        if metadata.get("namespace", info.namespace) not in ("", info.namespace):
            raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = info.namespace
    if info.verb == "create" and (known := schema.type_of(resource)) is not None and "metadata" in known.fields:
        metadata_rules.wipe_system_fields(obj)
        writer = Writer(write.field_manager, resource.api_version, asked.core.now(), info.subresource)
        managed_fields.record_update(None, obj, known, writer)
    attributes.object = obj


def handled(asked: Asked, result: Object | Response | Upgrade) -> Response:
    if isinstance(result, Upgrade):
        return UpgradeResponse(upgrade=result)
    if isinstance(result, Response):
        return result
    code = int(result.get("code") or 0) if result.get("kind") == "Status" else 0
    code = code or (201 if asked.info.verb == "create" else 200)
    return object_answer(code, result, asked.accepted_as(HANDLED), asked.attributes.warnings)


_VERBS: dict[str, Callable[[Asked], Awaitable[Response]]] = {
    "get": _get,
    "list": _list,
    "watch": _watch,
    "create": _create,
    "update": _update,
    "patch": _patch,
    "delete": _delete,
    "deletecollection": _delete_collection,
}
