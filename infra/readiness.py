"""When is a lab ready? When the API answers, every node is Ready, and cluster DNS answers on a node.

Conditions are polled with a limit each; an error says what was still missing when it ran out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infra.install.components import ROLE_LABEL
from infra.topology import Topology
from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES
from orchestrator.api.status import ApiError
from orchestrator.api.wire import Request
from orchestrator.client.client import Client

CLOUD_TAINTS = "node.cloudprovider.kubernetes.io/"
POLL_S = 0.05
API_TIMEOUT_S = 30.0
NODES_TIMEOUT_S = 60.0
DNS_TIMEOUT_S = 30.0


class NotReady(RuntimeError):
    """A condition did not come true in time; the message has what was seen last."""


def is_ready(node: Object) -> bool:
    return conditions.is_true(node, "Ready")


def why_not_ready(nodes: Sequence[Object], since: Mapping[str, float], *, has_cloud: bool = True) -> str:
    """Empty when every node of `since` is Ready, as said by a kubelet that was started then (seconds since the epoch).

    `has_cloud`: a cloud controller runs already, and a node that waits for it is not ready. What an earlier kubelet
    said stands until the node controller doubts it, which takes 40 s: it says nothing of now.
    """
    found = {meta.name(node): node for node in nodes}
    reasons = []
    for name, started in since.items():
        if name not in found:
            reasons.append(f"{name} has not registered")
            continue
        ready = conditions.find(found[name].get("status", {}).get("conditions"), "Ready")
        if ready is None:
            reasons.append(f"{name} is not Ready: no Ready condition yet")
        elif ready["status"] != "True":
            reasons.append(f"{name} is not Ready: {ready.get('message', '')}")
        elif meta.parse_time(ready["lastHeartbeatTime"]) + 1 <= started:  # heartbeats are whole seconds
            reasons.append(f"{name} was Ready, but its kubelet has not reported since it was started again")
        elif has_cloud and (taint := _cloud_taint(found[name])):
            reasons.append(f"{name} is Ready, but waits for the cloud controller (taint {taint})")
    return "; ".join(reasons)


def _cloud_taint(node: Object) -> str:
    """What the cloud controller has yet to take off, before pods can come to the node; "" where nothing."""
    taints = (node.get("spec") or {}).get("taints") or ()
    return next((taint["key"] for taint in taints if taint["key"].startswith(CLOUD_TAINTS)), "")


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


async def wait_nodes(
    kubeconfig: Path, started: Callable[[], Mapping[str, float]], control_planes: Sequence[str]
) -> None:
    """`started`: when each node's present kubelet was started, asked again at every look."""
    client = Client.from_kubeconfig(kubeconfig, user_agent="sampan")
    missing = "nodes could not be listed"
    deadline = time.monotonic() + NODES_TIMEOUT_S
    try:
        while time.monotonic() < deadline:
            try:
                nodes = (await client.list(NODES)).items
                await label_roles(client, nodes, control_planes)
                missing = why_not_ready(nodes, started())
                if not missing:
                    return
            except (ApiError, OSError) as error:
                missing = f"listing nodes: {error}"
            await asyncio.sleep(POLL_S)
    finally:
        await client.close()
    raise NotReady(f"after {NODES_TIMEOUT_S:.0f} s: {missing}")


def wait_dns(run: Callable[[Sequence[str]], object], topology: Topology, limit_s: float = DNS_TIMEOUT_S) -> None:
    """Asked on the last node, where `run` runs a command, through the service's address: so its proxy and a DNS server
    are at work too."""
    name = f"kubernetes.default.svc.{topology.networks.cluster_domain}"
    server, node = topology.networks.dns_service[0], topology.nodes[-1].name
    command = ["timeout", "1", "busybox", "nslookup", name, server]
    _poll(lambda: _fails(run, command), limit_s, f"cluster DNS ({server}) asked on {node} for {name}")


def _fails(run: Callable[[Sequence[str]], object], command: Sequence[str]) -> str:
    try:
        run(command)
    except RuntimeError as error:
        return str(error)
    return ""


def _poll(problem: Callable[[], str], limit_s: float, what: str) -> None:
    deadline = time.monotonic() + limit_s
    while seen := problem():
        if time.monotonic() > deadline:
            raise NotReady(f"{what}: not after {limit_s:.0f} s: {seen}")
        time.sleep(POLL_S)
