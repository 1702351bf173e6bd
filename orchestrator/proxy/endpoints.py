"""Which endpoints take a service port's traffic, seen from one node.

Ready endpoints take it; where there is none, those that are terminating and still serving do, so that the last pods of
a rollout keep answering. A `Local` policy keeps to endpoints on this node; zone hints are followed only when every
ready endpoint has one and some are for this node's zone. Source: KEP-1669, KEP-2086, KEP-2433; kube-proxy's behaviour.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from orchestrator.proxy.services import Endpoint, ServicePort


class Here(Struct, frozen=True):
    """What the proxy knows of its own node."""

    node: str
    zone: str = ""


class Choice(Struct, frozen=True):
    """Endpoints in a stable order. `cluster` serves internal traffic and the Cluster policy, `local` the Local one;
    `exists` says whether the service has any usable endpoint anywhere: without one it is refused, not dropped."""

    internal: tuple[Endpoint, ...]
    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    exists: bool


def choose(port: ServicePort, endpoints: Iterable[Endpoint], here: Here) -> Choice:
    every = sorted(set(endpoints))
    usable = _usable(every)
    local = _usable([endpoint for endpoint in every if endpoint.node == here.node])
    cluster = _by_zone(usable, here.zone)
    internal = local if port.internal_local else cluster
    return Choice(tuple(internal), tuple(cluster), tuple(local), bool(usable))


def _usable(endpoints: list[Endpoint]) -> list[Endpoint]:
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    return ready or [endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating]


def _by_zone(endpoints: list[Endpoint], zone: str) -> list[Endpoint]:
    if not zone or not endpoints or not all(endpoint.zones for endpoint in endpoints):
        return endpoints
    return [endpoint for endpoint in endpoints if zone in endpoint.zones] or endpoints
