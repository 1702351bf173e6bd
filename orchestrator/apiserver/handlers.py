"""Work that only some kinds need from the server, in two tables the wiring fills: handlers and strategies.

A **handler** answers all of one subresource, or creation of a virtual kind, keyed by (group_resource, subresource):
`("pods", "binding")`, `("pods", "log")`, `("serviceaccounts", "token")`,
`("subjectaccessreviews.authorization.k8s.io", "")`. It runs after authentication and authorization, with the body
decoded, checked against its schema and defaulted in `call.attributes.object`. It returns an Object (sent as the client
asked for it, 201 for a create), or a Response, or an Upgrade where it wants the connection itself.

A **strategy** stands beside the ordinary verbs of one group_resource (Service addresses): `before_write` may change
`attributes.object` after mutating admission and defaulting and before validation; `after_write` runs once, whatever
came of the write, and gives back what was not used. Neither keeps anything of a dry run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from msgspec import Struct, field

from orchestrator.api.meta import Object
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver.request import Attributes, RequestInfo

if TYPE_CHECKING:
    from orchestrator.apiserver.server import ApiServer


class Call(Struct):
    """One request on its way to a handler. `server` reads (`server.reader`) and writes (`server.client`) objects."""

    request: Request
    info: RequestInfo
    attributes: Attributes
    server: ApiServer


class Upgrade(Struct, frozen=True):
    """The handler takes the connection: `run` gets aiohttp's request, prepares its own response (a WebSocketResponse,
    a StreamResponse) and returns it when done. In a process without a socket it cannot be served."""

    run: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


Handler = Callable[[Call], Awaitable[Object | Response | Upgrade]]


class Strategy(Protocol):
    async def before_write(self, attributes: Attributes) -> None: ...

    async def after_write(self, attributes: Attributes, *, succeeded: bool) -> None: ...


class Tables(Struct):
    """What the wiring adds to the generic server."""

    handlers: Mapping[tuple[str, str], Handler] = field(default_factory=dict)
    strategies: Mapping[str, Strategy] = field(default_factory=dict)
