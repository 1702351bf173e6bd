"""After a restore: when do the pods that served serve again?

What the restored API server says of pods is what it said when the snapshot was taken. So a pod counts when its kubelet
has reported since that its containers run: containers of a node that was powered off were started anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from infra.readiness import POLL_S, NotReady
from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODS
from orchestrator.api.status import ApiError
from orchestrator.client.client import Client

SERVING_TIMEOUT_S = 60.0


def served(pods: Sequence[Object]) -> set[str]:
    """Keys of those that are Ready by what is on record."""
    return {meta.key(pod) for pod in pods if conditions.is_true(pod, "Ready") and not meta.is_deleting(pod)}


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


async def wait_serving(kubeconfig: Path, since: float) -> None:
    client = Client.from_kubeconfig(kubeconfig, user_agent="sampan")
    awaited: set[str] | None = None
    missing = "pods could not be listed"
    deadline = time.monotonic() + SERVING_TIMEOUT_S
    try:
        while time.monotonic() < deadline:
            try:
                pods = (await client.list(PODS)).items
                awaited = served(pods) if awaited is None else awaited
                missing = why_not_serving(pods, awaited, since)
                if not missing:
                    return
            except (ApiError, OSError) as error:
                missing = f"listing pods: {error}"
            await asyncio.sleep(POLL_S)
    finally:
        await client.close()
    raise NotReady(f"pods do not serve {SERVING_TIMEOUT_S:.0f} s after the restore: {missing}")
