"""The proxy subresources of pods, services and nodes: an HTTP request through the API server to what they run.

    .../pods/[https:]NAME[:PORT]/proxy/PATH       the pod's address; PORT is a number, by default the first container's
    .../services/[https:]NAME[:PORT]/proxy/PATH   one ready endpoint; PORT is a name or number of the Service
    /api/v1/nodes/NAME[:PORT]/proxy/PATH          the kubelet

The answer is passed on as it is, but for redirects, which are made relative to the proxy. Errors: ServiceUnavailable
where nothing answers. Source: Kubernetes docs, "Access Services Running on Clusters"; UpgradeAwareHandler.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from orchestrator.api import status
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODS, SERVICES
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver import services
from orchestrator.apiserver.handlers import Call, Upgrade
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.streams import relay
from orchestrator.apiserver.streams.backend import Backends, Target

CONNECTION_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "content-length", "date")


@dataclass(frozen=True, slots=True)
class Reference:
    """`scheme:name:port` taken apart; scheme and port may be ""."""

    scheme: str
    name: str
    port: str


def parse_reference(text: str) -> Reference:
    """BadRequest for what is none."""
    parts = text.split(":")
    if len(parts) == 1:
        return Reference("", parts[0], "")
    if len(parts) == 2:
        return Reference("", parts[0], parts[1])
    if len(parts) == 3 and parts[0] in ("", "http", "https"):
        return Reference(parts[0], parts[1], parts[2])
    raise status.BadRequest(f'invalid proxy request "{text}"')


class Proxies:
    """The handlers of the proxy subresources."""

    def __init__(self, backends: Backends, lookup: Lookup, chance: random.Random) -> None:
        self._backends, self._lookup, self._chance = backends, lookup, chance

    async def pod(self, call: Call) -> Response | Upgrade:
        reference = parse_reference(call.info.name)
        pod = self._lookup.get(PODS, call.info.namespace, reference.name)
        if pod is None:
            raise status.not_found("", "pods", reference.name)
        address = (pod.get("status") or {}).get("podIP")
        if not address:
            raise status.BadRequest("address not allowed")
        return await self._pass_on(call, self._target(reference.scheme, str(address), pod_port(pod, reference.port)))

    async def service(self, call: Call) -> Response | Upgrade:
        reference = parse_reference(call.info.name)
        service = self._lookup.get(SERVICES, call.info.namespace, reference.name)
        if service is None:
            raise status.not_found("", "services", reference.name)
        port_name = service_port(service, reference)
        slices = services.slices_of(self._lookup, call.info.namespace, reference.name)
        endpoints = ready_endpoints(slices, port_name)
        if not endpoints:
            raise status.ServiceUnavailable(f'no endpoints available for service "{call.info.name}"')
        host, port = self._chance.choice(endpoints)
        return await self._pass_on(call, self._target(reference.scheme, host, port))

    async def node(self, call: Call) -> Response | Upgrade:
        reference = parse_reference(call.info.name)
        target = self._backends.kubelet(reference.name)
        if reference.port and reference.port != str(target.port):
            target = self._target(reference.scheme, target.host, _number(reference.port))
        return await self._pass_on(call, target)

    def _target(self, scheme: str, host: str, port: int) -> Target:
        return Target(host, port, self._backends.unverified_tls if scheme == "https" else None)

    async def _pass_on(self, call: Call, target: Target) -> Response | Upgrade:
        request = call.request
        before, mark, rest = request.path.partition(f"/{call.info.name}/proxy")
        if not rest and request.method in ("GET", "HEAD"):
            # Relative links of a page at the root need the slash.
            return Response(301, {"location": relay.path_and_query(request.path + "/", request.query)}, b"")
        path = rest or "/"
        if relay.is_upgrade(request):
            return await relay.upgrade(request, target, path, request.query)
        try:
            answer, headers = await forwarded(self._backends.session, request, target, path)
        except CONNECTION_ERRORS as error:
            raise status.ServiceUnavailable(
                f"error trying to reach service: {error or type(error).__name__}"
            ) from error
        if location := headers.get("location"):
            headers["location"] = relocated(location, f"{before}{mark}", target)
        return Response(answer.status, headers, chunks(answer))


async def forwarded(
    session: aiohttp.ClientSession,
    request: Request,
    target: Target,
    path: str,
    more: Iterable[tuple[str, str]] = (),
) -> tuple[aiohttp.ClientResponse, dict[str, str]]:
    """The request sent on, with `more` headers: the answer, and its headers that are the caller's too. Errors:
    CONNECTION_ERRORS."""
    answer = await session.request(
        request.method,
        URL(target.origin + relay.path_and_query(path, request.query), encoded=True),
        data=request.body or None,
        headers=CIMultiDict([*relay.forwarded_headers(request).items(), *more]),
        allow_redirects=False,
        ssl=target.tls or True,
        server_hostname=target.server_name,
    )
    return answer, {name.lower(): value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}


def relocated(location: str, prefix: str, target: Target) -> str:
    """A redirect within the proxied server, as the caller can follow it."""
    url = URL(location)
    if url.is_absolute() and str(url.origin()) != str(URL(target.origin).origin()):
        return location
    return f"{prefix}{url.raw_path_qs}" if url.raw_path.startswith("/") else location


def pod_port(pod: Object, asked: str) -> int:
    """By default the first port of the first container that has one."""
    if asked:
        return _number(asked)
    for container in (pod.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            return int(port["containerPort"])
    return 80


def service_port(service: Object, reference: Reference) -> str:
    """The name, in the Service and its EndpointSlices, of the port that is meant."""
    ports: Sequence[dict[str, Any]] = (service.get("spec") or {}).get("ports") or ()
    if not reference.port and len(ports) == 1:
        return ports[0].get("name") or ""
    for port in ports:
        if reference.port in (port.get("name") or "", str(port.get("port"))):
            return port.get("name") or ""
    raise status.ServiceUnavailable(f'no service port "{reference.port}" found for service "{reference.name}"')


def ready_endpoints(slices: Sequence[Object], port_name: str) -> list[tuple[str, int]]:
    found = []
    for item in slices:
        number = next((p["port"] for p in item.get("ports") or () if (p.get("name") or "") == port_name), None)
        for endpoint in item.get("endpoints") or ():
            if number and (endpoint.get("conditions") or {}).get("ready") is not False:
                found += [(str(address), int(number)) for address in endpoint.get("addresses") or ()]
    return sorted(set(found))


def _number(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise status.BadRequest(f'invalid port "{text}"')
    return int(text)


async def chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionError(f"answer broken off: {error or type(error).__name__}") from error
    finally:
        answer.close()
