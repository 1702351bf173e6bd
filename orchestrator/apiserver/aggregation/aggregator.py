"""The aggregator itself: which paths are another server's, requests to them, and whether that server is there.

A path below `/apis/GROUP/VERSION` of an APIService with a service goes there as it is, after authentication and
authorization here; the other server may authorize again. Whether it is available is looked at when the APIService, its
Service or that one's endpoints change, after a failure with growing pauses, and every RECHECK_S.
The answer to that look is also what aggregated discovery shows.
Source: k8s.io/kube-aggregator, proxy handler and remote availability controller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp
import orjson
from msgspec.structs import replace

from orchestrator.api import conditions, meta
from orchestrator.api.kinds.apiservices import AVAILABLE, local_condition
from orchestrator.api.meta import Object
from orchestrator.api.resources import APISERVICES, ENDPOINTSLICES, SERVICES
from orchestrator.api.status import ApiError, Conflict, NotFound
from orchestrator.api.wire import Identity, Request, Response
from orchestrator.apiserver import services
from orchestrator.apiserver.aggregation.remote import CLAIMS, Connections, Remote, claims
from orchestrator.apiserver.asked import UpgradeResponse
from orchestrator.apiserver.endpoint import Core
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.streams import relay
from orchestrator.apiserver.streams.backend import new_session
from orchestrator.apiserver.streams.proxy import CONNECTION_ERRORS, chunks, forwarded
from orchestrator.client.client import Client

log = logging.getLogger(__name__)

RECHECK_S = 30.0
RETRY_S, RETRY_MAX_S = 0.1, 30.0
CHECK_TIMEOUT_S = 5.0
DISCOVERY_BYTES_MAX = 8 << 20
CHECKER = Identity("system:kube-aggregator", ("system:masters",))
_TEXT = {"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"}


class Aggregator:
    """`start` once the cache is loaded."""

    def __init__(self, core: Core, lookup: Lookup, client: Client, connections: Connections) -> None:
        self._core, self._lookup, self._client, self._connections = core, lookup, client, connections
        self._remotes: dict[tuple[str, str], Remote] = {}
        self._resources: dict[tuple[str, str], list[dict[str, Any]]] = {}  # what each was seen to serve
        self._checks: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}
        self._session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        self._lookup.subscribe(APISERVICES, self._api_service_changed)
        self._lookup.subscribe(SERVICES, self._service_changed)
        self._lookup.subscribe(ENDPOINTSLICES, self._slice_changed)

    async def close(self) -> None:
        tasks = [task for task, _ in self._checks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    # -- what is served elsewhere --------------------------------------------------------------------------------------

    def remotes(self) -> list[Remote]:
        """Highest priority first."""
        return sorted(self._remotes.values(), key=lambda one: (-one.group_priority, one.group, -one.priority))

    def resources(self, remote: Remote) -> list[dict[str, Any]]:
        """The entries of its APIResourceList, as last seen."""
        return self._resources.get((remote.group, remote.version), [])

    def remote(self, path: str) -> Remote | None:
        """Who serves a path; None: this server."""
        if not self._remotes:
            return None
        parts = path.split("/", 4)
        if len(parts) > 3 and parts[1] == "apis":
            return self._remotes.get((parts[2], parts[3]))
        return self._remotes.get(("", parts[2])) if len(parts) > 2 and parts[1] == "api" else None

    async def serve(self, request: Request, user: Identity, remote: Remote) -> Response:
        if not remote.is_available:
            return _failed("service unavailable")
        try:
            target = self._connections.target(remote)
        except services.NoAddress as error:
            log.warning("service not found", extra={"api_service": remote.name, "error": str(error)})
            return _failed("service unavailable")
        except services.NoAuthorities as error:
            return Response(500, dict(_TEXT), f"{error}\n".encode())
        kept = {name: value for name, value in request.headers.items() if not name.startswith(CLAIMS)}
        request = replace(request, headers=kept)
        who = list(claims(user))
        if relay.is_upgrade(request):
            return UpgradeResponse(upgrade=await relay.upgrade(request, target, request.path, request.query, who))
        try:
            answer, headers = await forwarded(self._sessions(), request, target, request.path, who)
        except CONNECTION_ERRORS as error:
            return _failed(f"error trying to reach service: {error or type(error).__name__}")
        return Response(answer.status, headers, chunks(answer))

    def _sessions(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = new_session()
        return self._session

    # -- what changes --------------------------------------------------------------------------------------------------

    def _api_service_changed(self, old: Object | None, new: Object | None) -> None:
        before = Remote.of(old) if old is not None else None
        now = Remote.of(new) if new is not None else None
        if before is not None and now is None:
            self._remotes.pop((before.group, before.version), None)
            self._resources.pop((before.group, before.version), None)
        if now is not None:
            self._remotes[now.group, now.version] = now
        name = meta.name(new or old or {})
        is_needed = new is not None and (now is not None or not conditions.is_true(new, AVAILABLE))
        if not is_needed:
            if (running := self._checks.pop(name, None)) is not None:
                running[0].cancel()
        elif name not in self._checks:
            changed = asyncio.Event()
            task = asyncio.get_running_loop().create_task(self._keep_checked(name, changed))
            self._checks[name] = task, changed
        elif old is None or new is None or old.get("spec") != new.get("spec"):
            self._checks[name][1].set()

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old or {}
        self._look_again(meta.namespace(obj), meta.name(obj))

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old or {}
        self._look_again(meta.namespace(obj), services.service_of(obj))

    def _look_again(self, namespace: str, service: str) -> None:
        for remote in self._remotes.values():
            if (remote.namespace, remote.service) == (namespace, service) and remote.name in self._checks:
                self._checks[remote.name][1].set()

    # -- availability --------------------------------------------------------------------------------------------------

    async def _keep_checked(self, name: str, changed: asyncio.Event) -> None:
        pause = RETRY_S
        while True:
            changed.clear()
            try:
                passed = await self._check(name)
            except (ApiError, OSError) as error:
                passed = False
                if not isinstance(error, (Conflict, NotFound)):
                    log.warning("status of an API service not written", extra={"name": name, "error": str(error)})
            except Exception:
                passed = False
                log.exception("API service not checked", extra={"api_service": name})
            wait, pause = (RECHECK_S, RETRY_S) if passed else (pause, min(pause * 2, RETRY_MAX_S))
            try:
                await asyncio.wait_for(changed.wait(), wait)
                pause = RETRY_S
            except TimeoutError:
                pass

    async def _check(self, name: str) -> bool:
        """Whether it is available; its status then says so."""
        found = self._lookup.get(APISERVICES, "", name)
        if found is None:
            return True
        remote = Remote.of(found)
        if remote is None:
            wanted, passed = local_condition(self._core.now()), True
        else:
            fault = self._fault(remote) or await self._unanswered(remote)
            passed = fault is None
            reason, message = fault or ("Passed", "all checks passed")
            wanted = {"type": AVAILABLE, "status": str(passed), "reason": reason, "message": message}
        held = found.get("status") or {}
        before = conditions.find(held.get("conditions"), AVAILABLE) or {}
        if any(before.get(key) != wanted[key] for key in ("status", "reason", "message")):
            shown = conditions.updated(held.get("conditions"), wanted, self._core.now())
            changed = {**found, "status": {**held, "conditions": shown}}
            await self._client.update(APISERVICES, changed, subresource="status")
        return passed

    def _fault(self, remote: Remote) -> tuple[str, str] | None:
        """(reason, message) of what is seen without asking."""
        which = f'service/{remote.service} in "{remote.namespace}"'
        service = self._lookup.get(SERVICES, remote.namespace, remote.service)
        if service is None:
            return "ServiceNotFound", f"{which} is not present"
        spec = service.get("spec") or {}
        if (spec.get("type") or "ClusterIP") != "ClusterIP":
            return None
        ports = [port for port in spec.get("ports") or () if port.get("port") == remote.port]
        if not ports:
            return "ServicePortError", f"{which} is not listening on port {remote.port}"
        slices = services.slices_of(self._lookup, remote.namespace, remote.service)
        if not slices:
            return "EndpointsNotFound", f"cannot find endpointslices for {which}"
        port_name = ports[0].get("name") or ""
        if not _has_endpoint(slices, port_name):
            message = f'endpointslices for {which} have no addresses with port name "{port_name}"'
            return "MissingEndpoints", message
        return None

    async def _unanswered(self, remote: Remote) -> tuple[str, str] | None:
        """(reason, message) where it does not say what it serves."""
        try:
            target = self._connections.target(remote, verified=False)
        except services.NoAddress as error:
            return "FailedDiscoveryCheck", str(error)
        url = target.origin + remote.root
        request = Request("GET", remote.root, headers={"accept": "application/json"})
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                answer, _ = await forwarded(self._sessions(), request, target, remote.root, claims(CHECKER))
                body = b"".join([chunk async for chunk in chunks(answer)])
        except CONNECTION_ERRORS as error:
            why = f'Get "{url}": {error or "context deadline exceeded"}'
            return "FailedDiscoveryCheck", f"failing or missing response from {url}: {why}"
        if not 200 <= answer.status < 300:
            why = f"bad status from {url}: {answer.status}"
            return "FailedDiscoveryCheck", f"failing or missing response from {url}: {why}"
        self._resources[remote.group, remote.version] = _entries(body)
        return None


def _has_endpoint(slices: Iterable[Object], port_name: str) -> bool:
    return any(
        any((port.get("name") or "") == port_name and port.get("port") for port in one.get("ports") or ())
        and any((end.get("conditions") or {}).get("ready") is not False for end in one.get("endpoints") or ())
        for one in slices
    )


def _entries(body: bytes) -> list[dict[str, Any]]:
    """Of an APIResourceList; what is none has no entries."""
    try:
        found = orjson.loads(body[:DISCOVERY_BYTES_MAX])
    except orjson.JSONDecodeError:
        return []
    entries = found.get("resources") if isinstance(found, Mapping) else None
    return [one for one in entries or () if isinstance(one, dict) and isinstance(one.get("name"), str)]


def _failed(message: str) -> Response:
    """As kube-aggregator says it, in plain text."""
    return Response(503, dict(_TEXT), f"{message}\n".encode())
