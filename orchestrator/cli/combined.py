"""Components that share a process: what passes between them still passes through the API, only nearer.

`node`: porter, proxy and DNS as root. The porter acts as its node and sees that node's pods; proxy and DNS share one
client and its informers, so Services and EndpointSlices are watched and held once.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator.cli.process import load
from orchestrator.client.client import Client
from orchestrator.client.informer import Informers


async def node(folder: Path) -> None:
    porter, porter_config = load("porter", folder / "porter.yaml")
    proxy, proxy_config = load("proxy", folder / "proxy.yaml")
    dns, dns_config = load("dns", folder / "dns.yaml")
    client = Client.from_kubeconfig(proxy_config.kubeconfig, user_agent="sampan-node")
    try:
        async with Informers(client) as informers, asyncio.TaskGroup() as tasks:
            tasks.create_task(porter.run(porter_config))
            tasks.create_task(proxy.run(proxy_config, client, informers))
            tasks.create_task(dns.run(dns_config, client, informers))
    finally:
        await client.close()
