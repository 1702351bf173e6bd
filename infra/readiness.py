"""When is a lab ready? When the API answers, every node is Ready, and cluster DNS answers on a node.

Conditions are polled with a limit each; an error says what was still missing when it ran out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.install.components import ROLE_LABEL
from infra.local.control import Control
from infra.topology import Topology
from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES
from orchestrator.api.status import ApiError
from orchestrator.api.wire import Request
from orchestrator.client.client import Client

POLL_S = 0.05
API_TIMEOUT_S = 30.0
NODES_TIMEOUT_S = 60.0
DNS_TIMEOUT_S = 30.0


class NotReady(RuntimeError):
    """A condition did not come true in time; the message has what was seen last."""


def is_ready(node: Object) -> bool:
    conditions = node.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def why_not_ready(nodes: Sequence[Object], wanted: Sequence[str]) -> str:
    """Empty when all wanted nodes are Ready."""
    found = {meta.name(node): node for node in nodes}
    reasons = []
    for name in wanted:
        if name not in found:
            reasons.append(f"{name} has not registered")
        elif not is_ready(found[name]):
            conditions = found[name].get("status", {}).get("conditions") or []
            said = next((c.get("message", "") for c in conditions if c["type"] == "Ready"), "no Ready condition yet")
            reasons.append(f"{name} is not Ready: {said}")
    return "; ".join(reasons)


async def wait_api(kubeconfig: Path) -> None:
    client = Client.from_kubeconfig(kubeconfig, user_agent="sampan")
    seen = "no answer"
    deadline = time.monotonic() + API_TIMEOUT_S
    try:
        while time.monotonic() < deadline:
            try:
                response = await client.request(Request("GET", "/readyz"))
                if response.status == 200:
                    return
                seen = f"/readyz answers {response.status}"
            except (ConnectionError, OSError) as error:
                seen = str(error)
            await asyncio.sleep(POLL_S)
    finally:
        await client.close()
    raise NotReady(f"the API server is not ready after {API_TIMEOUT_S:.0f} s: {seen}")


async def label_roles(client: Client, nodes: Sequence[Object], control_planes: Sequence[str]) -> None:
    """kubelets may not name their own node's role, so whoever installs them does, as kubeadm."""
    for node in nodes:
        if meta.name(node) in control_planes and ROLE_LABEL not in meta.labels(node):
            await client.patch(NODES, meta.name(node), "", {"metadata": {"labels": {ROLE_LABEL: ""}}})


async def wait_nodes(kubeconfig: Path, topology: Topology) -> None:
    client = Client.from_kubeconfig(kubeconfig, user_agent="sampan")
    missing = "nodes could not be listed"
    deadline = time.monotonic() + NODES_TIMEOUT_S
    try:
        while time.monotonic() < deadline:
            try:
                nodes = (await client.list(NODES)).items
                await label_roles(client, nodes, [topology.control_plane.name])
                missing = why_not_ready(nodes, [node.name for node in topology.nodes])
                if not missing:
                    return
            except (ApiError, OSError) as error:
                missing = f"listing nodes: {error}"
            await asyncio.sleep(POLL_S)
    finally:
        await client.close()
    raise NotReady(f"after {NODES_TIMEOUT_S:.0f} s: {missing}")


def wait_dns(control: Control, topology: Topology) -> None:
    """Asked from the last node, through the service's address: so its proxy and a DNS server are at work too."""
    name = f"kubernetes.default.svc.{topology.networks.cluster_domain}"
    server, node = topology.networks.dns_service[0], topology.nodes[-1].name
    command = ["timeout", "1", "busybox", "nslookup", name, server]
    _poll(lambda: _fails(control, node, command), DNS_TIMEOUT_S, f"cluster DNS ({server}) asked on {node} for {name}")


def _fails(control: Control, node: str, command: Sequence[str]) -> str:
    try:
        control.run(node, command)
    except RuntimeError as error:
        return str(error)
    return ""


def _poll(problem: Callable[[], str], limit_s: float, what: str) -> None:
    deadline = time.monotonic() + limit_s
    while seen := problem():
        if time.monotonic() > deadline:
            raise NotReady(f"{what}: not after {limit_s:.0f} s: {seen}")
        time.sleep(POLL_S)
