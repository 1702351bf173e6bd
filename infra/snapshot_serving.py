"""After a restore: when does what served serve again?

What the restored API server says is what it said when the snapshot was taken. Where nodes were powered off, a pod
counts when its kubelet has reported since that its containers run, which were started anew. Machines go on from their
memory, and their pods with them: there a node counts when its kubelet answers through the API server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.readiness import POLL_S, NotReady
from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES, PODS
from orchestrator.api.status import ApiError
from orchestrator.api.wire import Request
from orchestrator.client.client import Client, read

SERVING_TIMEOUT_S = 90.0
ASK_TIMEOUT_S = 10.0


def served(pods: Sequence[Object], since: float) -> set[str]:
    """Keys of those that were Ready before the restore began (`since`, in seconds since the epoch) on record:
    a pod that became unready since then, because its kubelet was quick to report, was."""
    return {meta.key(pod) for pod in pods if _was_ready(pod, since) and not meta.is_deleting(pod)}


def _was_ready(pod: Object, since: float) -> bool:
    ready = conditions.find((pod.get("status") or {}).get("conditions"), "Ready") or {}
    if ready.get("status") == "True":
        return True
    changed, made = ready.get("lastTransitionTime"), pod["metadata"].get("creationTimestamp")
    if not changed or not made:
        return False
    return meta.parse_time(changed) + 1 > since >= meta.parse_time(made) + 1


def why_not_serving(pods: Sequence[Object], awaited: set[str], since: float) -> str:
    """Empty when all of `awaited` that still exist are Ready with every container started after `since`
    (seconds since the epoch)."""
    reasons = []
    for pod in pods:
        if meta.key(pod) not in awaited or meta.is_deleting(pod):
            continue
        states = pod.get("status", {}).get("containerStatuses") or []
        started = [state.get("state", {}).get("running", {}).get("startedAt", "") for state in states]
        # Times on record are whole seconds.
        fresh = [meta.parse_time(moment) + 1 > since if moment else False for moment in started]
        if not fresh or not all(fresh):
            reasons.append(f"{meta.key(pod)}: its containers have not been started again")
        elif not conditions.is_true(pod, "Ready"):
            reasons.append(f"{meta.key(pod)}: is not Ready")
    return "; ".join(reasons)


def why_not_answering(nodes: Sequence[Object], answers: Mapping[str, str]) -> str:
    """Empty when every node is Ready and its kubelet's health is `ok`."""
    ready = {meta.name(node): conditions.is_true(node, "Ready") for node in nodes}
    reasons = []
    for name, said in answers.items():
        if said != "ok":
            reasons.append(f"node {name}: its kubelet answers {said}")
        elif not ready.get(name, False):
            reasons.append(f"node {name} is not Ready")
    return "; ".join(reasons)


async def wait_answering(kubeconfig: Path, names: Sequence[str]) -> None:
    client = Client.from_kubeconfig(kubeconfig, user_agent="sampan")
    missing = "the API server has not answered"
    deadline = time.monotonic() + SERVING_TIMEOUT_S
    try:
        while time.monotonic() < deadline:
            try:
                async with asyncio.timeout(ASK_TIMEOUT_S):
                    nodes = (await client.list(NODES)).items
                    answers = {name: await _health(client, name) for name in names}
                missing = why_not_answering(nodes, answers)
                if not missing:
                    return
            except (ApiError, OSError, TimeoutError) as error:
                missing = f"asking the API server: {error!r}"
            await asyncio.sleep(POLL_S)
    finally:
        await client.close()
    raise NotReady(f"nodes do not answer {SERVING_TIMEOUT_S:.0f} s after the restore: {missing}")


async def _health(client: Client, node: str) -> str:
    response = await client.request(Request("GET", f"/api/v1/nodes/{node}/proxy/healthz"))
    body = response.body if isinstance(response.body, bytes) else await read(response.body)
    return body.decode(errors="replace").strip() or f"status {response.status}"


async def wait_serving(kubeconfig: Path, since: float) -> None:
    client = Client.from_kubeconfig(kubeconfig, user_agent="sampan")
    awaited: set[str] | None = None
    missing = "pods could not be listed"
    deadline = time.monotonic() + SERVING_TIMEOUT_S
    try:
        while time.monotonic() < deadline:
            try:
                pods = (await client.list(PODS)).items
                awaited = served(pods, since) if awaited is None else awaited
                missing = why_not_serving(pods, awaited, since)
                if not missing:
                    return
            except (ApiError, OSError) as error:
                missing = f"listing pods: {error}"
            await asyncio.sleep(POLL_S)
    finally:
        await client.close()
    raise NotReady(f"pods do not serve {SERVING_TIMEOUT_S:.0f} s after the restore: {missing}")
