"""The proxy subresources of pods, services and nodes: an HTTP request through the API server to what they run.

    .../pods/[https:]NAME[:PORT]/proxy/PATH       the pod's address; PORT is a number, by default the first container's
    .../services/[https:]NAME[:PORT]/proxy/PATH   one ready endpoint; PORT is a name or number of the Service
    /api/v1/nodes/NAME[:PORT]/proxy/PATH          the kubelet

The answer is passed on as it is, but for redirects and the links of HTML pages, which are led through the proxy again,
and headers that would share it with other origins. Nobody reaches by a proxy what is the API server's own alone: an
address of a Service that is no pod's, or one of its own machine. Errors: ServiceUnavailable where nothing answers,
BadRequest for such an address. Source: Kubernetes docs, "Access Services Running on Clusters"; UpgradeAwareHandler.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import aiohttp
from msgspec import Struct
from multidict import CIMultiDict
from yarl import URL

from orchestrator.api import status
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODS, SERVICES
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver import services
from orchestrator.apiserver.handlers import Call, Upgrade
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.streams import links, relay
from orchestrator.apiserver.streams.backend import Backends, Target

CONNECTION_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)
BROADCAST = ipaddress.IPv4Address("255.255.255.255")
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "content-length", "date")


class Reference(Struct, frozen=True):
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
        check_address(str(address or ""))
        return await self._pass_on(call, self._target(reference.scheme, str(address), pod_port(pod, reference.port)))

    async def service(self, call: Call) -> Response | Upgrade:
        reference = parse_reference(call.info.name)
        service = self._lookup.get(SERVICES, call.info.namespace, reference.name)
        if service is None:
            raise status.not_found("", "services", reference.name)
        port_name = service_port(service, reference)
        slices = services.slices_of(self._lookup, call.info.namespace, reference.name)
        endpoints = [
            each for each in ready_endpoints(slices, port_name) if self._is_of_a_pod(call.info.namespace, each)
        ]
        if not endpoints:
            raise status.ServiceUnavailable(f'no endpoints available for service "{call.info.name}"')
        chosen = self._chance.choice(endpoints)
        return await self._pass_on(call, self._target(reference.scheme, chosen.address, chosen.port))

    def _is_of_a_pod(self, namespace: str, endpoint: Endpoint) -> bool:
        pod = self._lookup.get(PODS, namespace, endpoint.pod) if endpoint.pod else None
        return pod is not None and endpoint.address in [
            entry.get("ip") for entry in (pod.get("status") or {}).get("podIPs") or ()
        ]

    async def node(self, call: Call) -> Response | Upgrade:
        reference = parse_reference(call.info.name)
        target = self._backends.kubelet(reference.name)
        if reference.port and reference.port != str(target.port):  # else the kubelet, which shows that it is one
            check_address(target.host)
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
        place = links.Place(f"{before}{mark}", target.authority, request.headers.get("host", ""))
        try:
            answer, headers = await forwarded(
                self._backends.session,
                request,
                target,
                path,
                [("X-Forwarded-Uri", relay.path_and_query(request.path, []))],
            )
            for name in links.CORS:
                headers.pop(name, None)
            if location := headers.get("location"):
                headers["location"] = place.url(location)
            elif links.is_page(headers.get("content-type", "")) and request.method != "HEAD":
                return Response(answer.status, headers, await _page(answer, headers, place))
        except CONNECTION_ERRORS as error:
            raise status.ServiceUnavailable(
                f"error trying to reach service: {error or type(error).__name__}"
            ) from error
        return Response(answer.status, headers, chunks(answer))


async def _page(answer: aiohttp.ClientResponse, headers: dict[str, str], place: links.Place) -> bytes:
    """Errors: CONNECTION_ERRORS."""
    try:
        body = await answer.read()
    finally:
        answer.close()
    changed = links.rewritten(body, headers.get("content-encoding", ""), place)
    return body if changed is None else changed


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


class Endpoint(Struct, frozen=True):
    address: str
    port: int
    pod: str  # name; "" where it is not one


def ready_endpoints(slices: Sequence[Object], port_name: str) -> list[Endpoint]:
    found: dict[Endpoint, None] = {}
    for item in slices:
        number = next((p["port"] for p in item.get("ports") or () if (p.get("name") or "") == port_name), None)
        for endpoint in item.get("endpoints") or ():
            if number and (endpoint.get("conditions") or {}).get("ready") is not False:
                of = endpoint.get("targetRef") or {}
                pod = of.get("name", "") if of.get("kind") == "Pod" else ""
                found |= dict.fromkeys(Endpoint(str(address), int(number), pod) for address in endpoint["addresses"])
    return list(found)


def check_address(address: str) -> None:
    """BadRequest where it is none of another machine or pod. A name is for its resolver to judge."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        if address in ("", "localhost"):
            raise status.BadRequest("address not allowed") from None
        return
    ip = getattr(ip, "ipv4_mapped", None) or ip
    is_own = ip.is_unspecified or ip.is_loopback or ip.is_link_local or ip.is_multicast
    if is_own or ip == BROADCAST:
        raise status.BadRequest("address not allowed")


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
