"""What installing and removing a node asks of the cluster: that the API answers, that a node is Ready, and, before a
machine goes, that its pods have gone elsewhere. `drain_plan` and `spared` are pure; the rest polls, each wait with its
limit. A drain goes easier on workloads than kubectl's: of pods that are replicas of each other the last ready one is
evicted when another is ready elsewhere, whether they have a budget or not.
Source: kubectl drain; Concepts, "Safely Drain a Node" (DaemonSet and mirror pods stay, evictions respect budgets).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path

from infra.readiness import label_roles, why_not_ready
from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES, PODS
from orchestrator.api.status import ApiError, NotFound
from orchestrator.api.wire import Request
from orchestrator.client.client import Client

POLL_S = 0.2
READY_TIMEOUT_S = 300.0  # a guest without KVM needs a while to import its components
INITIALIZED_TIMEOUT_S = 900.0  # a worker may be Ready before the cloud controller has been started
API_TIMEOUT_S = 900.0  # the control plane's machine may still have to boot and be installed
DRAIN_TIMEOUT_S = 300.0
SPARE_S = 120.0  # so long a drain waits for a replica elsewhere
ANSWER_TIMEOUT_S = 120.0  # of an API that answered a moment ago: its machine may be busy
ASK_TIMEOUT_S = 10.0
UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
Say = Callable[[str], None]


class ClusterError(RuntimeError):
    """The cluster did not come to what was waited for; the message names the node and what was seen last."""


def wait_ready(kubeconfig: Path, node: str, control_planes: Iterable[str], since: float, say: Say) -> None:
    """Until the node is Ready by a heartbeat later than `since` (seconds since the epoch; 0: any)."""
    asyncio.run(_wait_ready(kubeconfig, node, list(control_planes), since, say))


async def _wait_ready(kubeconfig: Path, node: str, control_planes: list[str], since: float, say: Say) -> None:
    async def look(client: Client) -> str:
        nodes = (await client.list(NODES)).items
        await label_roles(client, nodes, control_planes)
        return why_not_ready(nodes, {node: since}, has_cloud=False)  # a control plane is installed before that

    await _until(kubeconfig, look, READY_TIMEOUT_S, f"node {node}", say)


def wait_api(kubeconfig: Path, node: str, say: Say) -> None:
    """Until the API server says that it is ready. `node` is the one that waits for it."""

    async def look(client: Client) -> str:
        response = await client.request(Request("GET", "/readyz"))
        return "" if response.status == 200 else f"/readyz answers {response.status}"

    asyncio.run(_until(kubeconfig, look, API_TIMEOUT_S, f"node {node} waits for the control plane", say))


def wait_initialized(kubeconfig: Path, node: str, say: Say) -> None:
    """Until a cloud controller has taken the node's taint away."""

    async def look(client: Client) -> str:
        taints = (await client.get(NODES, node)).get("spec", {}).get("taints") or ()
        waits = any(taint["key"] == UNINITIALIZED for taint in taints)
        return f"the cloud controller has not initialized it (taint {UNINITIALIZED})" if waits else ""

    asyncio.run(_until(kubeconfig, look, INITIALIZED_TIMEOUT_S, f"node {node}", say))


def drain_plan(pods: Iterable[Object], *, with_bare: bool) -> list[tuple[str, str]]:
    """Namespace and name of each pod that has to leave its node; `with_bare`: also those that nobody makes anew."""
    leaving = []
    for pod in pods:
        owners = {owner["kind"] for owner in meta.metadata(pod).get("ownerReferences") or () if owner.get("controller")}
        is_over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        stays = meta.MIRROR_ANNOTATION in meta.annotations(pod) or "DaemonSet" in owners or is_over
        if not stays and (owners or with_bare):
            leaving.append((meta.namespace(pod), meta.name(pod)))
    return sorted(leaving)


def spared(pods: Iterable[Object], leaving: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of the pods that leave have to wait: of replicas whose ready ones all leave, one that is ready. `pods` are
    those of all nodes."""
    going = set(leaving)
    groups: dict[str, list[Object]] = {}
    for pod in pods:
        owner = meta.controller_of(pod)
        if owner is not None and not meta.is_deleting(pod):
            groups.setdefault(owner["uid"], []).append(pod)
    found = set()
    for replicas in groups.values():
        ready = [(meta.namespace(pod), meta.name(pod)) for pod in replicas if conditions.is_true(pod, "Ready")]
        if len(replicas) > 1 and ready and going.issuperset(ready):
            found.add(ready[0])
    return found


def drain(kubeconfig: Path, node: str, say: Say, *, with_bare: bool) -> None:
    """Cordon the node and evict its pods; returns when they have gone. A node that is not in the cluster is done."""
    asyncio.run(_drain(kubeconfig, node, say, with_bare))


async def _drain(kubeconfig: Path, node: str, say: Say, with_bare: bool) -> None:
    began = time.monotonic()

    async def look(client: Client) -> str:
        try:
            await client.patch(NODES, node, "", {"spec": {"unschedulable": True}})
        except NotFound:
            return ""
        pods = (await client.list(PODS)).items
        here = [pod for pod in pods if (pod.get("spec") or {}).get("nodeName") == node]
        leaving = drain_plan(here, with_bare=with_bare)
        stays = spared(pods, leaving) if time.monotonic() - began < SPARE_S else set()
        refused = "".join(f"; {namespace}/{name} waits for a replica elsewhere" for namespace, name in sorted(stays))
        for namespace, name in leaving:
            if (namespace, name) in stays:
                continue
            eviction = {"metadata": {"name": name, "namespace": namespace}}
            try:
                await client.create(PODS, {**_EVICTION, **eviction}, namespace, subresource="eviction", name=name)
            except NotFound:
                continue
            except ApiError as error:  # 429: a budget does not allow it yet
                refused += f"; {namespace}/{name}: {error}"
        if not leaving:
            return ""
        return f"{len(leaving)} pods are still there ({', '.join(name for _, name in leaving[:5])}){refused}"

    await _until(kubeconfig, look, DRAIN_TIMEOUT_S, f"draining node {node}", say)


_EVICTION: Object = {"apiVersion": "policy/v1", "kind": "Eviction"}


def uncordon(kubeconfig: Path, node: str) -> None:
    async def patch(client: Client) -> str:
        await client.patch(NODES, node, "", {"spec": {"unschedulable": None}})
        return ""

    asyncio.run(_until(kubeconfig, patch, ANSWER_TIMEOUT_S, f"uncordoning node {node}", _silent))


def forget(kubeconfig: Path, node: str) -> None:
    """Delete the Node object, if it is there."""

    async def delete(client: Client) -> str:
        with suppress(NotFound):
            await client.delete(NODES, node)
        return ""

    asyncio.run(_until(kubeconfig, delete, ANSWER_TIMEOUT_S, f"removing node {node} from the cluster", _silent))


def _silent(words: str) -> None:
    pass


async def _until(
    kubeconfig: Path, problem: Callable[[Client], Awaitable[str]], limit_s: float, what: str, say: Say
) -> None:
    """Asks again until nothing is wrong; says each new thing that is."""
    client = Client.from_kubeconfig(kubeconfig, user_agent="sampan-lab")
    deadline, told = time.monotonic() + limit_s, ""
    try:
        while True:
            try:
                async with asyncio.timeout(ASK_TIMEOUT_S):
                    seen = await problem(client)
            except (ApiError, OSError, TimeoutError) as error:
                seen = f"the API does not answer yet: {str(error) or f'nothing in {ASK_TIMEOUT_S:.0f} s'}"
            if not seen:
                return
            if seen != told:
                say(f"{what}: {seen}")
                told = seen
            if time.monotonic() > deadline:
                raise ClusterError(f"{what}: not after {limit_s:.0f} s: {seen}")
            await asyncio.sleep(POLL_S)
    finally:
        await client.close()
