"""ApiServer: `handle(Request) -> Response`, the whole API server without a socket.

The order of a request: parse → authenticate → impersonate → wait for its turn → authorize → read the body → (handler |
generic verb | plain path). Every failure is a Status. Nothing here waits but the store, a request whose turn has not
come (`fairness`), and one whose body has not, so a read is answered in one step of the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import lru_cache
from typing import Any

from orchestrator.api import go_duration
from orchestrator.api.resources import Resource
from orchestrator.api.status import (
    ApiError,
    BadRequest,
    InternalError,
    NotAcceptable,
    NotFound,
    ServiceUnavailable,
    Timeout,
    Unauthorized,
)
from orchestrator.api.wire import Identity, Request, Response
from orchestrator.apiserver import connect, verbs, watching
from orchestrator.apiserver import request as requests
from orchestrator.apiserver.aggregation.aggregator import Aggregator
from orchestrator.apiserver.asked import NOT_SERVED, Asked, object_answer, warned
from orchestrator.apiserver.audit import Audit, Record
from orchestrator.apiserver.authn.impersonation import acting_as
from orchestrator.apiserver.authz.message import refusal
from orchestrator.apiserver.endpoint import Core
from orchestrator.apiserver.fairness.gate import Gate, Passage, is_long_running
from orchestrator.apiserver.handled import handled, handler_body
from orchestrator.apiserver.handlers import Call
from orchestrator.apiserver.health import TEXT_HEADERS
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.metrics import Metrics
from orchestrator.apiserver.negotiation import OBJECT, PLAIN, accepted
from orchestrator.apiserver.request import Authenticator, Authorizer, RequestInfo
from orchestrator.apiserver.webhooks.conversion import NeedsConversion
from orchestrator.client.client import Client
from orchestrator.client.inprocess import InProcessTransport
from orchestrator.store.interface import NotSealed, StoreFailed

log = logging.getLogger(__name__)

LOOPBACK = Identity("system:apiserver", ("system:masters",))

NOTHING_SERVED = RequestInfo("other", "")
PLAIN_PATHS = {
    path: RequestInfo("get", path, subresource=shown)
    for path, shown in (
        *((f"/{name}", f"/{name}") for name in ("healthz", "livez", "readyz")),
        *((f"/{name}", name) for name in ("api", "apis", "version", "metrics", "openapi/v2", "openapi/v3")),
    )
}
REQUEST_S = 60.0  # that a request may take which is no stream
TOO_LATE = "Timeout: request did not complete within requested timeout - context deadline exceeded"
PATH_KEPT_MAX = 1024  # characters of a path whose meaning is remembered

Route = Callable[[Request], Awaitable[Response]]  # the request says who asks


class ApiServer:
    """`start` before the first request; `routes` are the plain paths, the longest prefix ending in `/` wins."""

    def __init__(self, core: Core, lookup: Lookup, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self.core = core
        self.lookup = lookup
        self.metrics = Metrics()
        self.routes: dict[str, Route] = {}
        self.audit: Audit | None = None
        self.aggregator: Aggregator | None = None
        self.gate: Gate | None = None
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._bookmarks: asyncio.Task[None] | None = None
        self.client = Client(InProcessTransport(self.handle, LOOPBACK))

    def add_resources(self, resources: Iterable[Resource]) -> None:
        for resource in resources:
            self.core.add(resource)

    def start(self) -> None:
        self._bookmarks = asyncio.get_running_loop().create_task(watching.tell_progress(self.core))

    async def close(self) -> None:
        """Ends all watches; the store is its owner's to close."""
        if self._bookmarks is not None:
            self._bookmarks.cancel()
            await asyncio.gather(self._bookmarks, return_exceptions=True)
        for endpoint in self.core.endpoints.values():
            for observer in endpoint.cache.observers():
                observer.end()

    async def handle(self, request: Request) -> Response:
        started = time.perf_counter()
        if request.query or len(request.path) > PATH_KEPT_MAX:
            info = requests.parse(request.method, request.path, request.query)
        else:
            info = _parse_again(request.method, request.path)
        record = self.audit.begin(request, info) if self.audit is not None else None
        try:
            user = self._user(request, record)
        except Exception as error:
            return self._done(_failed(request, error), info, request, record, started)
        gate, passage, lasts = self.gate, None, is_long_running(info)
        try:
            limit_s = _limit_s(request) if request.query and not lasts and info.verb != "watch" else REQUEST_S
        except BadRequest as error:
            return self._done(failure(error, request), info, request, record, started)
        if gate is not None and not lasts:
            passage = gate.enter(user, info, request)
            if not passage.is_served and not await gate.waited(passage):
                answer = gate.refusal(passage)
                answer.headers |= passage.flow.headers
                return self._done(answer, info, request, record, started)
        work = self._admitted(request, info, user, record, passage, started)
        if lasts or not (request.outlives_client or limit_s < REQUEST_S):
            return await (asyncio.shield(asyncio.ensure_future(work)) if request.outlives_client else work)
        return await _in_time(work, limit_s, request)

    async def _admitted(
        self,
        request: Request,
        info: RequestInfo,
        user: Identity,
        record: Record | None,
        passage: Passage | None,
        started: float,
    ) -> Response:
        """The answer to one who is known, and whose turn it is."""
        if self.gate is None or passage is None:
            return self._done(await self._served(request, info, user, record), info, request, record, started)
        inflight = self.metrics.inflight(info)
        inflight.began(started)
        try:
            answer = await self._served(request, info, user, record)
        finally:
            inflight.ended()
            self.gate.leave(passage)
        answer.headers |= passage.flow.headers
        return self._done(answer, info, request, record, started)

    def _done(
        self, answer: Response, info: RequestInfo, request: Request, record: Record | None, started: float
    ) -> Response:
        if self.audit is not None and record is not None:
            self.audit.done(record, answer)
        self.metrics.count(self._counted(info), request, answer, time.perf_counter() - started)
        return answer

    def _counted(self, info: RequestInfo) -> RequestInfo:
        """What a request is counted as: a path that is not served must not make a series of its own."""
        endpoint = self.core.endpoints.get((info.group, info.version, info.resource))
        if endpoint is not None and (not info.subresource or endpoint.resource.subresource(info.subresource)):
            return info
        return PLAIN_PATHS.get(info.path, NOTHING_SERVED) if info.verb == "get" else NOTHING_SERVED

    def _user(self, request: Request, record: Record | None) -> Identity:
        user = asker = self._authenticated(request)
        if "impersonate-user" in request.headers or "impersonate-group" in request.headers:
            user = acting_as(request, user, self._authorizer)
        if record is not None and self.audit is not None:
            self.audit.known(record, asker, user if user is not asker else None)
        return user

    async def _served(self, request: Request, info: RequestInfo, user: Identity, record: Record | None) -> Response:
        """`_serve`, taken again each time that a webhook had to be asked for a conversion; a failure is an answer."""
        try:
            while True:
                try:
                    return await self._serve(request, info, user, record)
                except NeedsConversion as needs:
                    await needs.ask()
        except Exception as error:
            return _failed(request, error)

    async def _serve(self, request: Request, info: RequestInfo, user: Identity, record: Record | None) -> Response:
        attributes = requests.attributes(info, user)
        if request.query:  # what a node may list or watch depends on them
            attributes.field_selector = request.param("fieldSelector")
            attributes.label_selector = request.param("labelSelector")
        decision = self._authorizer.authorize(attributes)
        if record is not None:
            attributes.annotations = record.annotations
            record.annotations["authorization.k8s.io/decision"] = "allow" if decision.allowed else "forbid"
            record.annotations["authorization.k8s.io/reason"] = decision.reason
        if not decision.allowed:
            raise refusal(attributes, decision.reason)
        await request.read()
        if self.aggregator is not None and (remote := self.aggregator.remote(request.path)) is not None:
            return await self.aggregator.serve(request, user, remote)
        if not info.is_resource:
            return await self._plain(request, info, user)
        endpoint = self.core.endpoints.get((info.group, info.version, info.resource))
        if endpoint is None:
            return await self._plain(request, info, user)
        attributes.row = endpoint.resource
        if self.core.store.is_shared and not (info.verb in ("get", "list", "watch") and _says_how_old(request)):
            try:
                await self.core.cache.current()
            except StoreFailed as error:
                raise ServiceUnavailable(f"storage is not available: {error}") from error
        asked = Asked(self.core, endpoint, request, info, attributes, self._authorizer)
        verbs.check_served(endpoint, info, request.method)
        try:
            answer = await self._dispatched(asked)
        except NeedsConversion:
            raise
        except Exception as error:
            answer = warned(_failed(request, error), *attributes.warnings)
        told = endpoint.resource.deprecation if answer.status != NotAcceptable.code else ""
        if told:
            self.metrics.deprecated[info.group, info.version, info.resource, info.subresource] = ""
        return warned(answer, told) if told else answer

    async def _dispatched(self, asked: Asked) -> Response:
        """The answer of a handler, where the path has one of its own, or of the generic verbs."""
        info, attributes, endpoint = asked.info, asked.attributes, asked.endpoint
        if not info.subresource and info.verb != "create":
            return await verbs.serve(asked)
        handler = self.core.tables.handlers.get((endpoint.resource.group_resource, info.subresource))
        if handler is not None:
            sub = endpoint.resource.subresource(info.subresource) if info.subresource else None
            if sub is not None and connect.is_connection(sub):
                attributes.operation = "CONNECT"
                attributes.object = connect.options_of(sub, asked.request, info)
            else:
                attributes.operation = {"create": "CREATE", "update": "UPDATE"}.get(info.verb, "")
                handler_body(asked)
            if attributes.operation in ("CREATE", "CONNECT"):  # a handler that updates does so through `writing`
                await self.core.admission.mutate(attributes)
                await self.core.admission.validate(attributes)
            return handled(asked, await handler(Call(asked.request, info, attributes, self)))
        return await verbs.serve(asked)

    def _authenticated(self, request: Request) -> Identity:
        user = self._authenticator.authenticate(request)
        if user is None:
            raise Unauthorized
        return user

    async def _plain(self, request: Request, info: RequestInfo, user: Identity) -> Response:
        path = request.path
        route = self.routes.get(path) or self.routes.get(path.rstrip("/"))
        while route is None and "/" in path:
            path = path.rpartition("/")[0]
            route = self.routes.get(f"{path}/")
        if info.is_resource and any(row.group == info.group for row in self.core.resources):
            raise NotFound(NOT_SERVED)
        if route is None or info.is_resource:
            return Response(404, dict(TEXT_HEADERS), b"404 page not found\n")
        request.identity = user
        return await route(request)


def _says_how_old(request: Request) -> bool:
    """Whether a read may be answered from what is known already."""
    return bool(request.query) and bool(request.param("resourceVersion") or request.param("continue"))


@lru_cache(maxsize=4096)
def _parse_again(method: str, path: str) -> RequestInfo:
    """The same few thousand paths are asked for again and again."""
    return requests.parse(method, path, [])


def _limit_s(request: Request) -> float:
    """How long the client would wait, at most as long as any request may take."""
    text = request.param("timeout")
    try:
        asked_s = go_duration.seconds(text) if text else 0.0
    except ValueError as error:
        raise BadRequest(f"invalid timeout specified in the request URL - {error}") from error
    return min(asked_s, REQUEST_S) if asked_s > 0 else REQUEST_S


async def _in_time(work: Coroutine[Any, Any, Response], limit_s: float, request: Request) -> Response:
    """Its answer, or that it takes too long: a write goes on all the same, since its effect may have begun."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=limit_s)
    except asyncio.CancelledError:
        if not request.outlives_client:
            task.cancel()
        raise
    if done:
        return task.result()
    if not request.outlives_client:
        task.cancel()
    return failure(Timeout(TOO_LATE), request)


def _failed(request: Request, error: Exception) -> Response:
    """What the client is told; what it cannot mend is logged."""
    if isinstance(error, ApiError):
        return failure(error, request)
    if isinstance(error, NotSealed):
        return failure(InternalError(f"Internal error occurred: {error}"), request)
    log.error("request failed", extra={"method": request.method, "path": request.path}, exc_info=error)
    return failure(InternalError("Internal error occurred: the request could not be carried out"), request)


def failure(error: ApiError, request: Request) -> Response:
    """The Status, in the encoding that the client accepts; JSON where it accepts none."""
    try:
        form = accepted(request.headers.get("accept", ""), (OBJECT,))
    except NotAcceptable:
        form = PLAIN
    answer = object_answer(error.status_code, error.to_status(), form)
    if error.retry_after_s is not None:
        answer.headers["retry-after"] = str(error.retry_after_s)
    return answer
