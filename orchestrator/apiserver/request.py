"""What a request asks for, before anyone looks at its body: RequestInfo, and the Attributes that access control judges.

`parse` turns method, path and query into a RequestInfo: a resource request (group, version, resource, subresource,
namespace, name, verb) or a plain path. Attributes is that plus who asks and, later, what they send: authorization reads
the first half, admission the whole. The order of the access chain is fixed in `server.py`:

    Authenticator.authenticate(Request) -> Identity | None     None: no credentials; Unauthorized: bad ones
    Authorizer.authorize(Attributes) -> Decision               allowed, or the reason that Forbidden will show
    AdmissionChain.mutate(Attributes)                          may change `object` in place; raises ApiError to refuse
    AdmissionChain.validate(Attributes)                        may only refuse

Source: k8s.io/apiserver endpoints/request; Kubernetes docs, "Access Control".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct, field

from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource
from orchestrator.api.wire import Identity, Request

VERB_OF_METHOD = {"POST": "create", "PUT": "update", "PATCH": "patch", "GET": "get", "HEAD": "get", "DELETE": "delete"}
NAMESPACE_SUBRESOURCES = ("status", "finalize")


class RequestInfo(Struct, frozen=True):
    """`parts` is what the path has after the subresource (a proxied path). For the resource `namespaces` the namespace
    is its own name. A path that is no resource request has `is_resource` false and its method, lower case, as verb."""

    verb: str
    path: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    parts: tuple[str, ...] = ()


class Attributes(Struct):
    """One attempt at one thing. `resource` is the plural; `row` its row in the table, where there is one. `object` is
    the new object (or the body of a subresource), `old_object` the stored one; `options` the decoded CreateOptions,
    UpdateOptions, DeleteOptions… `warnings` become Warning headers of the answer, `annotations` stand in the audit
    event."""

    user: Identity
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    is_resource: bool = True
    row: Resource | None = None
    object: Object | None = None
    old_object: Object | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    dry_run: bool = False
    operation: str = ""  # CREATE, UPDATE, DELETE or CONNECT, as admission names it
    field_selector: str = ""
    label_selector: str = ""
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def group_resource(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource


class Decision(Struct, frozen=True):
    """The answer of an authorizer; `reason` says why not (or why)."""

    allowed: bool
    reason: str = ""


class Authenticator(Protocol):
    """Who asks. None where the request carries no credentials; raises Unauthorized where it carries bad ones."""

    def authenticate(self, request: Request) -> Identity | None: ...


class Authorizer(Protocol):
    """May they. Called on every request, so it answers from memory and does not await."""

    def authorize(self, attributes: Attributes) -> Decision: ...


class AdmissionChain(Protocol):
    """What else must hold of a write. Both raise an ApiError to refuse."""

    async def mutate(self, attributes: Attributes) -> None: ...

    async def validate(self, attributes: Attributes) -> None: ...


def parse(method: str, path: str, query: list[tuple[str, str]]) -> RequestInfo:
    """The RequestInfo of a request; never fails, an odd path is simply no resource request."""
    segments = path.strip("/").split("/")
    if segments[0] == "api" and len(segments) >= 3:
        group, version, rest = "", segments[1], segments[2:]
    elif segments[0] == "apis" and len(segments) >= 4:
        group, version, rest = segments[1], segments[2], segments[3:]
    else:
        return RequestInfo(method.lower(), path)
    verb = VERB_OF_METHOD.get(method, "")
    if rest[0] in ("watch", "proxy") and len(rest) > 1:  # /api/v1/watch/pods: the old spelling of ?watch=true
        verb = "watch" if rest[0] == "watch" else "proxy"
        rest = rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in NAMESPACE_SUBRESOURCES:
            rest = rest[2:]
    name = rest[1] if len(rest) > 1 else ""
    if not name:
        verb = _collection_verb(verb, query)
        if verb in ("list", "watch"):
            name = _selected_name(query)
    subresource = rest[2] if len(rest) > 2 else ""
    return RequestInfo(verb, path, True, group, version, namespace, rest[0], subresource, name, tuple(rest[3:]))


def _collection_verb(verb: str, query: list[tuple[str, str]]) -> str:
    if verb == "delete":
        return "deletecollection"
    if verb == "get":
        return (
            "watch"
            if any(key == "watch" and value in ("true", "1", "True", "TRUE", "t") for key, value in query)
            else "list"
        )
    return verb


def _selected_name(query: list[tuple[str, str]]) -> str:
    """A list or watch of exactly one name is authorized by that name."""
    for key, value in query:
        if key == "fieldSelector" and value.startswith("metadata.name="):
            name = value.removeprefix("metadata.name=").removeprefix("=")
            return "" if "," in name else name
    return ""


def attributes(info: RequestInfo, user: Identity, row: Resource | None = None) -> Attributes:
    return Attributes(
        user=user, verb=info.verb, group=info.group, version=info.version, resource=info.resource,
        subresource=info.subresource, namespace=info.namespace, name=info.name, path=info.path,
        is_resource=info.is_resource, row=row,
    )  # fmt: skip
