"""The whole way up: host, image, nodes, keys, files, components, until the cluster is ready. Running it again repairs.

Nothing here decides how a step is done; this is the order, and what overlaps: nodes are installed side by side, while
the supervisor imports what the components will need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from infra import host, kubeconfig, pki, readiness
from infra.images import cache
from infra.install import components, steps
from infra.local import cloud, lab
from infra.local.control import Control
from infra.local.layout import HOST_NODE, Layout
from infra.progress import Steps
from infra.topology import Node, Topology
from infra.up import Up


def up(wish: Topology, kubeconfig_file: Path, show: Steps) -> Up:
    layout = Layout(wish.name)
    host.ensure(show.note)
    with show.step("node image"):
        cache.node_image(show.note)
    with show.step(f"{len(wish.nodes)} nodes booted"):
        topology, control = lab.nodes_up(wish, show.note)
    with show.step("components installed and started"):
        pki.ensure(layout.pki, topology)
        install(control, topology, layout)
        admin = write_kubeconfigs(layout, topology, kubeconfig_file)
    with show.step("API server ready"):
        asyncio.run(readiness.wait_api(layout.kubeconfig))
    with show.step("all nodes Ready"):
        names = [node.name for node in topology.nodes]
        started = partial(control.kubelets_started, names)
        asyncio.run(readiness.wait_nodes(layout.kubeconfig, started, [topology.control_plane.name]))
    with show.step("cluster DNS answers"):
        readiness.wait_dns(lambda command: control.run(topology.nodes[-1].name, command), topology)
    return Up(topology, kubeconfig_file, admin["current-context"], show.total_s)


def install(control: Control, topology: Topology, layout: Layout) -> None:
    """Files onto every node, then the components; those whose files changed are started again."""
    keys = pki.load(layout.pki)
    shells = {node.name: control.shell(node.name) for node in topology.nodes}

    def one(node: Node) -> tuple[str, ...]:
        return steps.install_node(shells[node.name], topology, node, keys)

    with ThreadPoolExecutor(max_workers=len(topology.nodes) + 1) as pool:
        preloading = pool.submit(control.ask, "preload")
        changed = dict(zip(shells, pool.map(one, topology.nodes), strict=True))
        preloading.result()
    running = {(entry["node"], entry["name"]): entry for entry in control.ask("status")["components"]}
    wanted: list[dict[str, Any]] = []
    for node in topology.nodes:
        for process in components.processes(topology, node):
            wanted.append({"node": node.name, **vars(process)})
            if (node.name, process.name) in running and any(
                path.startswith(components.ETC) for path in changed[node.name]
            ):
                control.ask("component", node=node.name, name=process.name, action="restart")
    wanted += install_host(control, topology, layout, running)
    control.ask("components", components=wanted)


def install_host(
    control: Control, topology: Topology, layout: Layout, running: Mapping[tuple[str, str], Any]
) -> list[dict[str, Any]]:
    """What runs on no node: the cloud controller."""
    process = cloud.process(layout)
    if cloud.install(layout, topology) and (HOST_NODE, process.name) in running:
        control.ask("component", node=HOST_NODE, name=process.name, action="restart")
    return [{"node": HOST_NODE, **vars(process)}]


def write_kubeconfigs(layout: Layout, topology: Topology, user_file: Path) -> dict[str, Any]:
    """The lab's own, and its context in the user's."""
    name = kubeconfig.context(topology.name)
    text = pki.kubeconfig(layout.pki, topology.server, "admin", cluster=name, user=name)
    layout.kubeconfig.touch(mode=0o600)
    layout.kubeconfig.write_text(text)
    config: dict[str, Any] = yaml.safe_load(text)
    kubeconfig.share(config, user_file, layout.kubeconfig_users)
    return config
