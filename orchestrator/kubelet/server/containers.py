"""Finds what a request names: the pod, the container, its id and its log, or the words for why there is none.

Errors, as upstream's kubelet words them: NotFound for a pod, BadRequest for a log that cannot be there (yet).
Source: kubelet `GetKubeletContainerLogs`, `validateContainerLogStatus`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.kubelet.runtime.interface import ContainerState, State
from orchestrator.kubelet.server.interface import Pods

LISTS = ("initContainers", "containers", "ephemeralContainers")
STATUS_LISTS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
PULL_FAILURES = ("ErrImagePull", "ImagePullBackOff")


def pod_of(pods: Pods, namespace: str, name: str) -> Object:
    found = pods.get(namespace, name)
    if found is None:
        raise status.NotFound(f'pod "{name}" does not exist')
    return found


def specs(pod: Object) -> Iterator[dict[str, Any]]:
    for field in LISTS:
        yield from (pod.get("spec") or {}).get(field) or ()


def status_of(pod: Object, container: str) -> dict[str, Any] | None:
    for field in STATUS_LISTS:
        for found in (pod.get("status") or {}).get(field) or ():
            if found.get("name") == container:
                return dict(found)
    return None


async def running(pods: Pods, pod: Object, container: str) -> ContainerState:
    """The container that a command can be run in. InternalError in upstream's words where there is none."""
    found = (await pods.state(meta.uid(pod))).latest(container)
    if found is None or found.state is not State.RUNNING:
        raise status.InternalError(f'container not found ("{container}")')
    return found


async def log_path(pods: Pods, log_dir: Path, pod: Object, container: str, *, previous: bool) -> tuple[Path, str]:
    """Where the log is, and the id of the container that writes it. BadRequest where there is none to see."""
    name = meta.name(pod)
    if not any(spec.get("name") == container for spec in specs(pod)):
        raise status.NotFound(f'container "{container}" not found in pod "{name}"')
    state = await pods.state(meta.uid(pod))
    found = state.previous(container) if previous else state.latest(container)
    folder = log_dir / f"{meta.namespace(pod)}_{name}_{meta.uid(pod)}" / container
    if found is not None and (found.state is not State.CREATED or found.start_error):
        return folder / f"{found.attempt}.log", found.id
    # The runtime may have forgotten a container (the node rebooted, or it was made room) whose log is still there.
    restarts = int((status_of(pod, container) or {}).get("restartCount") or 0)
    kept = folder / f"{restarts - 1 if previous else restarts}.log"
    if found is None and kept.exists():
        return kept, ""
    if previous:
        raise status.BadRequest(f'previous terminated container "{container}" in pod "{name}" not found')
    raise status.BadRequest(f'container "{container}" in pod "{name}" {_why_waiting(pod, container)}')


def _why_waiting(pod: Object, container: str) -> str:
    waiting = ((status_of(pod, container) or {}).get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason") or "ContainerCreating"
    if reason in PULL_FAILURES:
        return "is waiting to start: trying and failing to pull image"
    return f"is waiting to start: {reason}"
