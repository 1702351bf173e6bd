"""One resource request that may go on: what it asks for and accepts, its options, its decoded body, and its answers."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.api import decoding
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver import body, encoding, options, warning, writing
from orchestrator.apiserver.authz.message import refusal
from orchestrator.apiserver.endpoint import Core, Endpoint
from orchestrator.apiserver.handlers import Upgrade
from orchestrator.apiserver.negotiation import ENCODINGS, FORMS, METADATA, STREAMS, Accepted, accepted
from orchestrator.apiserver.options import WriteOptions
from orchestrator.apiserver.protobuf.encoding import encode
from orchestrator.apiserver.representation import META_V1, check_metadata, renderer
from orchestrator.apiserver.request import Attributes, Authorizer, RequestInfo
from orchestrator.apiserver.resourcecache import Entry

JSON_HEADERS: Mapping[str, str] = {"content-type": encoding.JSON}
YAML_HEADERS: Mapping[str, str] = {"content-type": encoding.YAML}
BINARY_HEADERS: Mapping[str, str] = {"content-type": encoding.PROTOBUF}
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


def object_answer(code: int, obj: Object, form: Accepted, warnings: list[str] | None = None) -> Response:
    """The answer of an object that is not stored."""
    if form.form == METADATA and obj.get("kind") != "Status":
        group, _, version = obj.get("apiVersion", "").rpartition("/")
        check_metadata(form, Resource(group, version, "", obj["kind"], False), is_list=False)
        obj = {"kind": "PartialObjectMetadata", "apiVersion": META_V1 + form.version, "metadata": obj.get("metadata")}
    data = encode(obj) if form.media_type == encoding.PROTOBUF else encoding.encode_as_is(obj)
    return data_answer(code, data, form, warnings)


def data_answer(code: int, data: bytes, form: Accepted, warnings: list[str] | None = None) -> Response:
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


def decoded(asked: Asked, resource: Resource, obj: Object, text: bytes, write: WriteOptions) -> Object:
    """Checks the body against its schema, in place."""
    repeats = body.repeated_keys(asked.request) if write.field_validation != "Ignore" else []
    asked.attributes.warnings += decoding.check(obj, resource, write.field_validation, text, repeats)
    return obj


def prepare(asked: Asked, kind: str) -> WriteOptions:
    """The options of a write, noted where admission looks for them; `kind` is theirs, e.g. PatchOptions."""
    write = options.write_options(asked.request, kind)
    asked.attributes.dry_run = write.dry_run
    asked.attributes.options = write.to_json(kind)
    return write


def check_may_create(asked: Asked) -> None:
    """Forbidden where the user may change what is there and not make what is not."""
    as_create = replace(asked.attributes, verb="create")
    decision = asked.authorizer.authorize(as_create)
    if not decision.allowed:
        raise refusal(as_create, decision.reason)


async def written_answer(asked: Asked, form: Accepted, written: writing.Written) -> Response:
    """201 with what was made, 200 with what was changed, in the form and version that the client asked for."""
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
    return data_answer(201 if written.is_created else 200, data, form, asked.attributes.warnings)
