"""Components that share a process: what passes between them still passes through the API, only nearer.

`server`: API server, scheduler and controllers. The latter two call the API server's one function instead of a
socket, under the user names that their certificates would give them, through the same authorization and admission.
`node`: porter, proxy and DNS as root, as one user with one client and its informers, so that nodes, services and
endpoint slices are watched and held once.
If one of them fails, all end, and the supervisor starts them again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator.api.wire import Identity
from orchestrator.cli.process import load
from orchestrator.client.client import Client
from orchestrator.client.informer import Informers
from orchestrator.client.inprocess import InProcessTransport

AUTHENTICATED = "system:authenticated"
# Component -> its user and the agent that it names itself to the API server.
USERS = {
    "scheduler": ("system:kube-scheduler", "kube-scheduler"),
    "controller-manager": ("system:kube-controller-manager", "kube-controller-manager"),
}


async def server(folder: Path) -> None:
    api, api_config = load("api-server", folder / "api-server.yaml")
    parts = {name: load(name, folder / f"{name}.yaml") for name in USERS}
    async with api.running(api_config) as served, asyncio.TaskGroup() as tasks:
        for name, (module, config) in parts.items():
            user, agent = USERS[name]
            transport = InProcessTransport(served.handle, Identity(user, (AUTHENTICATED,)))
            task = tasks.create_task(module.run(config, Client(transport, agent)), name=name)
            components = served.core.components
            if components is not None:
                components.checks[name] = lambda task=task: "it has ended" if task.done() else None


async def node(folder: Path) -> None:
    porter, porter_config = load("porter", folder / "porter.yaml")
    proxy, proxy_config = load("proxy", folder / "proxy.yaml")
    dns, dns_config = load("dns", folder / "dns.yaml")
    client = Client.from_kubeconfig(proxy_config.kubeconfig, user_agent="sampan-node")
    try:
        async with Informers(client) as informers, asyncio.TaskGroup() as tasks:
            tasks.create_task(porter.run(porter_config, client, informers), name="porter")
            tasks.create_task(proxy.run(proxy_config, client, informers), name="proxy")
            tasks.create_task(dns.run(dns_config, client, informers), name="dns")
    finally:
        await client.close()
