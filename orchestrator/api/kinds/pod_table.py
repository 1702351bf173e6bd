"""The Pod table: READY, STATUS and RESTARTS as kubectl shows them, computed from container statuses.

STATUS is the phase unless something says more: a gate, the first init container that is not done (`Init:0/2`), a
waiting or terminated container's reason, or the deletion. Source: kubectl's Pod printer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.api import conditions, meta
from orchestrator.api.kinds.table import AGE, NAME, Cells, Column, age, since, wide
from orchestrator.api.meta import Object
from orchestrator.api.podresources import is_sidecar

Json = Mapping[str, Any]

COLUMNS = (
    NAME,
    Column("Ready"),
    Column("Status"),
    Column("Restarts"),
    AGE,
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
)


def cells(pod: Object, now: float) -> Cells:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    sidecars = {c.get("name") for c in spec.get("initContainers") or () if is_sidecar(c)}
    text, ready, restarts = _state(pod, spec, status, sidecars, now)
    total = len(spec.get("containers") or ()) + len(sidecars)
    addresses = status.get("podIPs") or ()
    return [
        meta.name(pod),
        f"{ready}/{total}",
        text,
        restarts,
        age(pod, now),
        (addresses[0].get("ip") if addresses else "") or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        _gates(spec, status),
    ]


def _state(pod: Object, spec: Json, status: Json, sidecars: set[Any], now: float) -> tuple[str, int, str]:
    """(STATUS, ready containers, RESTARTS)."""
    phase = status.get("phase") or ""
    text = status.get("reason") or phase
    found = status.get("conditions") or ()
    if any(c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in found):
        text = "SchedulingGated"
    inits = status.get("initContainerStatuses") or []
    waiting, ready = _init_state(inits, sidecars, len(spec.get("initContainers") or ()))
    if waiting and not conditions.is_true(pod, "Initialized"):
        text, counted = waiting, inits
    else:
        counted = [c for c in inits if c.get("name") in sidecars] + (status.get("containerStatuses") or [])
        more, text = _main_state(status.get("containerStatuses") or [], text, conditions.is_true(pod, "Ready"))
        ready += more
    if meta.is_deleting(pod) and status.get("reason") == "NodeLost":
        text = "Unknown"
    elif meta.is_deleting(pod) and phase not in ("Succeeded", "Failed"):
        text = "Terminating"
    return text, ready, _restarts(counted, now)


def _init_state(statuses: Iterable[Json], sidecars: set[Any], total: int) -> tuple[str, int]:
    """(what the first unfinished init container waits for, or ""; sidecars that are ready)."""
    ready = 0
    for index, container in enumerate(statuses):
        state = container.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if ended and ended.get("exitCode", 0) == 0:
            continue
        if container.get("name") in sidecars and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        if ended:
            return f"Init:{_ended(ended)}", ready
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}", ready
        return f"Init:{index}/{total}", ready
    return "", ready


def _ended(terminated: Json) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _main_state(statuses: list[Any], text: str, is_ready: bool) -> tuple[int, str]:
    """(ready containers, STATUS): the first container that has something to say wins."""
    ready, running, failure = 0, False, ""
    for container in reversed(statuses):
        state = container.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if waiting.get("reason"):
            text = waiting["reason"]
        elif ended:
            text = _ended(ended)
            failure = text if ended.get("exitCode", 0) else failure
        elif container.get("ready") and state.get("running") is not None:
            running = True
            ready += 1
    if text == "Completed":
        if running and is_ready:
            text = "Running"
        elif failure:
            text = failure
        elif running:
            text = "NotReady"
    return ready, text


def _restarts(statuses: list[Any], now: float) -> str:
    count = sum(container.get("restartCount", 0) for container in statuses)
    ended = [((c.get("lastState") or {}).get("terminated") or {}).get("finishedAt") for c in statuses]
    last = max((moment for moment in ended if moment), default=None)
    return f"{count} ({since(last, now)} ago)" if count and last else str(count)


def _gates(spec: Json, status: Json) -> str:
    gates = spec.get("readinessGates") or ()
    if not gates:
        return "<none>"
    passed = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    return f"{sum(gate.get('conditionType') in passed for gate in gates)}/{len(gates)}"
