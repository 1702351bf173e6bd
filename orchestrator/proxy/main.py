"""The proxy as a component: informers on Services, EndpointSlices and its own Node, and one proxier."""

from __future__ import annotations

import asyncio

from msgspec import Struct, field

from orchestrator.api.clock import SystemClock
from orchestrator.api.resources import ENDPOINTSLICES, NODES, SERVICES
from orchestrator.client.client import Client
from orchestrator.client.informer import Informers
from orchestrator.proxy.healthz import health_server, local_server
from orchestrator.proxy.nft import Nft
from orchestrator.proxy.proxier import Proxier
from orchestrator.proxy.services import HEADLESS_LABEL, PROXY_NAME_LABEL


class Config(Struct, frozen=True, kw_only=True):
    """`pod_networks`: the cluster's pod networks of both families; traffic from elsewhere is masqueraded."""

    node_name: str
    kubeconfig: str = ""
    pod_networks: list[str] = field(default_factory=list)
    healthz_port: int = 10256
    metrics_port: int = 10249  # of what is told to the node itself


async def run(config: Config, client: Client | None = None, informers: Informers | None = None) -> None:
    """Keep this node's rules in step until cancelled. The rules stay when the proxy goes: traffic goes on."""
    client = client or Client.from_kubeconfig(config.kubeconfig, user_agent="proxy")
    own = informers is None
    informers = informers or Informers(client)
    proxier = Proxier(config.node_name, config.pod_networks, Nft())
    services = informers.informer(SERVICES, label_selector=f"!{PROXY_NAME_LABEL}")
    slices = informers.informer(ENDPOINTSLICES, label_selector=f"!{PROXY_NAME_LABEL},!{HEADLESS_LABEL}")
    node = informers.informer(NODES, field_selector=f"metadata.name={config.node_name}")
    services.add_handler(proxier.on_service)
    slices.add_handler(proxier.on_slice)
    node.add_handler(proxier.on_node)
    async with asyncio.TaskGroup() as tasks:
        if own:
            tasks.create_task(informers.run())
        for informer in (services, slices, node):
            await informer.wait_synced()
        tasks.create_task(proxier.run())
        tasks.create_task(health_server(proxier, config.healthz_port, SystemClock()).run())
        tasks.create_task(local_server(config.metrics_port).run())
