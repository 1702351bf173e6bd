"""The DNS server of a node: follow Services, answer, and register behind kube-dns while answering."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from msgspec import Struct

from orchestrator.client.client import Client
from orchestrator.client.informer import Informers
from orchestrator.dns import message, resolv
from orchestrator.dns.follower import ZoneFollower
from orchestrator.dns.forward import Forwarder, Upstream, parse_upstream
from orchestrator.dns.registration import Registration
from orchestrator.dns.resolver import Resolver
from orchestrator.dns.server import Server
from orchestrator.dns.zone import Zone


class Config(Struct, frozen=True, kw_only=True):
    """`upstream` lists the servers for all other names (`address` or `address:port`); unset, `resolv_conf` does."""

    node_name: str
    node_addresses: tuple[str, ...]
    cluster_ips: tuple[str, ...]
    kubeconfig: str = ""
    cluster_domain: str = "cluster.local"
    port: int = 10053
    upstream: tuple[str, ...] | None = None
    resolv_conf: str = "/etc/resolv.conf"


def upstreams(config: Config) -> tuple[Upstream, ...]:
    """Never this server itself, which would ask itself in a circle."""
    own = {*config.node_addresses, *config.cluster_ips}
    if config.upstream is not None:
        return tuple(parse_upstream(text) for text in config.upstream)
    listed = resolv.name_servers(Path(config.resolv_conf))
    return tuple((address, 53) for address in listed if address not in own)


async def run(config: Config, client: Client | None = None, informers: Informers | None = None) -> None:
    """Serves until cancelled. The endpoint is announced only once the zone is complete and the sockets are open."""
    async with AsyncExitStack() as stack:
        if client is None:
            client = Client.from_kubeconfig(config.kubeconfig, user_agent="dns")
            stack.push_async_callback(client.close)
        is_own = informers is None
        informers = informers or Informers(client)
        zone = Zone(config.cluster_domain, config.cluster_ips)
        forwarder = Forwarder(upstreams(config), asyncio.get_running_loop().time)
        stack.push_async_callback(forwarder.close)
        udp, tcp = Resolver(zone, forwarder), Resolver(zone, forwarder, message.TCP_BYTES)

        def changed() -> None:
            udp.packed.clear()
            tcp.packed.clear()

        follower = ZoneFollower(zone, informers, changed)
        registration = Registration(
            client, informers, config.node_name, config.node_addresses, config.cluster_ips, config.port
        )
        if is_own:
            await stack.enter_async_context(informers)
        await follower.wait_synced()
        await stack.enter_async_context(Server(udp, tcp, config.node_addresses, config.port))
        await registration.run()
