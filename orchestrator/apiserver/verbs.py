"""Resource requests: from a RequestInfo and a body to the function that does the work, and its result to a Response.

One function a verb, the same for every kind. Handlers from the tables come first, then the scale subresource, then the
generic verbs. Errors are ApiErrors, rendered by the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from orchestrator.api.meta import Object
from orchestrator.api.status import MethodNotAllowed, NotFound
from orchestrator.api.wire import Response
from orchestrator.apiserver import body, deletion, encoding, options, reading, scaling, selection, watching, writing
from orchestrator.apiserver.asked import (
    JSON_HEADERS,
    NOT_ALLOWED,
    NOT_SERVED,
    Asked,
    UpgradeResponse,
    check_may_create,
    data_answer,
    decoded,
    object_answer,
    prepare,
    written_answer,
)
from orchestrator.apiserver.endpoint import Endpoint
from orchestrator.apiserver.negotiation import Accepted
from orchestrator.apiserver.options import DeleteOptions, WriteOptions
from orchestrator.apiserver.patching import patch
from orchestrator.apiserver.representation import check_metadata, list_document, renderer
from orchestrator.apiserver.request import RequestInfo
from orchestrator.apiserver.resourcecache import Entry
from orchestrator.apiserver.streams import websocket

BINARY_WATCH_HEADERS: Mapping[str, str] = {"content-type": f"{encoding.PROTOBUF};stream=watch"}
# Kinds whose PUT may create: upstream's AllowCreateOnUpdate.
CREATED_BY_PUT = frozenset(
    {
        "endpoints", "events", "limitranges", "services", "leases.coordination.k8s.io", "runtimeclasses.node.k8s.io",
        "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io",
        "clusterroles.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io",
    }
)  # fmt: skip


def check_served(endpoint: Endpoint, info: RequestInfo, method: str) -> None:
    """405 for a verb that the resource does not have, 404 for a subresource that it does not have."""
    resource = endpoint.resource
    if method == "HEAD" and info.subresource != "proxy":
        raise MethodNotAllowed(NOT_ALLOWED)
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
    if info.verb in ("update", "patch") and not info.name:
        raise MethodNotAllowed(NOT_ALLOWED)


async def serve(asked: Asked) -> Response:
    """The answer of the generic verbs."""
    info = asked.info
    if info.subresource == "scale":
        return await scaling.serve(asked)
    verb = _VERBS.get(info.verb)
    if verb is None:
        raise MethodNotAllowed(NOT_ALLOWED)
    return await verb(asked)


async def _get(asked: Asked) -> Response:
    info, form = asked.info, asked.accepted
    data = await reading.get(asked.core, asked.endpoint, asked.request, info.namespace, info.name, form)
    return data_answer(200, data, form)


async def _list(asked: Asked) -> Response:
    form = asked.accepted
    data = await reading.list_objects(asked.core, asked.endpoint, asked.request, asked.info.namespace, form)
    return data_answer(200, data, form)


async def _watch(asked: Asked) -> Response:
    info, form = asked.info, asked.accepted
    name = info.name if "fieldSelector" not in dict(asked.request.query) else ""
    stream = await watching.watch(asked.core, asked.endpoint, asked.request, info.namespace, form, name=name)
    is_binary = form.media_type == encoding.PROTOBUF
    if websocket.is_websocket(asked.request):
        return UpgradeResponse(upgrade=websocket.watch(stream, asked.request, is_binary=is_binary))
    return Response(200, dict(BINARY_WATCH_HEADERS if is_binary else JSON_HEADERS), stream)


async def _create(asked: Asked) -> Response:
    endpoint, info, attributes = asked.endpoint, asked.info, asked.attributes
    form = asked.accepted
    write = prepare(asked, "CreateOptions")
    obj, text = body.read(asked.request, asked.endpoint.resource.kind)
    writing.check_kind(endpoint, obj)
    decoded(asked, endpoint.resource, obj, text, write)
    writing.check_names(endpoint, obj, info.namespace, "")
    writing.drop_repeated_owners(obj, attributes)
    made = await writing.create(asked.core, endpoint, attributes, write, endpoint.to_stored(obj))
    return await written_answer(asked, form, made)


async def _update(asked: Asked) -> Response:
    endpoint, info, attributes = asked.endpoint, asked.info, asked.attributes
    form = asked.accepted
    write = prepare(asked, "UpdateOptions")
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

    return await written_answer(asked, form, await writing.update(asked.core, endpoint, attributes, write, change))


async def _put_new(asked: Asked, form: Accepted, write: WriteOptions, obj: Object) -> Response:
    """A PUT of what is not there creates it, where the kind allows that and the user may create."""
    attributes = asked.attributes
    check_may_create(asked)
    for name in ("resourceVersion", "uid"):
        obj["metadata"].pop(name, None)
    return await written_answer(
        asked, form, await writing.create(asked.core, asked.endpoint, attributes, write, asked.endpoint.to_stored(obj))
    )


def _deletion(asked: Asked) -> DeleteOptions:
    wanted, attributes = options.delete_options(asked.request), asked.attributes
    attributes.dry_run, attributes.options = wanted.dry_run, wanted.to_json()
    warning = deletion.WARNED_OF_ORPHANS.get(asked.endpoint.stored.group_resource)
    if warning and wanted.propagation is None:
        attributes.warnings.append(warning)
    return wanted


async def _delete(asked: Asked) -> Response:
    endpoint, form = asked.endpoint, asked.accepted
    wanted = _deletion(asked)
    deleted = await deletion.delete(asked.core, endpoint, asked.attributes, wanted)
    if deleted.is_removed and endpoint.stored.group_resource not in deletion.ANSWERS_OBJECT:
        status = deletion.success(endpoint, asked.info.name, deleted.uid)
        return object_answer(200, status, form, asked.attributes.warnings)
    return await written_answer(asked, form, writing.Written(deleted.data))


async def _delete_collection(asked: Asked) -> Response:
    endpoint, form = asked.endpoint, asked.accepted
    wanted = _deletion(asked)
    listed = options.list_options(asked.request, watch=False)
    selected = selection.parse(listed.label_selector, listed.field_selector, endpoint.picker)
    page = await reading.select(asked.core, endpoint, listed, selected, asked.info.namespace)
    items = await deletion.delete_collection(asked.core, endpoint, page.entries, asked.attributes, wanted)
    await endpoint.ready(asked.core, items)
    check_metadata(form, endpoint.stored, is_list=True)
    cache = endpoint.cache
    gone = [Entry("", asked.info.namespace, "", item, 0, 0, cache.picker) for item in items]
    render = renderer(asked.core, endpoint, form, asked.request)
    document = list_document(endpoint, gone, render, asked.core.cache.revision, "", 0)
    return data_answer(200, document, form, asked.attributes.warnings)


_VERBS: dict[str, Callable[[Asked], Awaitable[Response]]] = {
    "get": _get,
    "list": _list,
    "watch": _watch,
    "create": _create,
    "update": _update,
    "patch": patch,
    "delete": _delete,
    "deletecollection": _delete_collection,
}
