"""What is known of a node's health, and what follows from it: conditions and taints. Pure.

A node is alive while its Lease is renewed or its status written. After the grace period without either, conditions
become Unknown, as nobody knows better. Taints mirror conditions, so that the scheduler keeps away (NoSchedule) and pods
that do not tolerate it are evicted (NoExecute):

    Ready=False    node.kubernetes.io/not-ready            NoSchedule, NoExecute
    Ready=Unknown  node.kubernetes.io/unreachable          NoSchedule, NoExecute
    MemoryPressure, DiskPressure, PIDPressure=True         NoSchedule
    NetworkUnavailable=True, spec.unschedulable            NoSchedule

Where every node is lost it is rather this controller that is cut off: nothing is evicted then.
Source: Concepts, Nodes, "Node heartbeats"; Concepts, Taints and Tolerations, "Taint based Evictions".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api import conditions, meta
from orchestrator.api.conditions import Condition
from orchestrator.api.meta import Object
from orchestrator.controllers.fields import spec, status_of
from orchestrator.controllers.pods import created_at

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
BY_CONDITION = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
OURS = {NOT_READY, UNREACHABLE, UNSCHEDULABLE, *BY_CONDITION.values()}
KUBELET_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


def ready(node: Object) -> str:
    """The status of Ready: True, False or Unknown."""
    condition = conditions.find(status_of(node).get("conditions"), "Ready")
    return condition["status"] if condition else "Unknown"


def lost_conditions(node: Object, now: float) -> list[Condition]:
    """The conditions of a node that has been silent for the grace period."""
    found = list(status_of(node).get("conditions") or ())
    at = meta.format_time(now)
    for kind in KUBELET_CONDITIONS:
        current = conditions.find(found, kind)
        if current is None:
            heartbeat: str | None = meta.format_time(created_at(node))
            reason, message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
        elif current.get("status") == "Unknown":
            continue
        else:
            reason, message = "NodeStatusUnknown", "Kubelet stopped posting node status."
            heartbeat = current.get("lastHeartbeatTime")
        lost = {"type": kind, "status": "Unknown", "reason": reason, "message": message}
        found = conditions.updated(found, lost | ({"lastHeartbeatTime": heartbeat} if heartbeat else {}), at)
    return found


def wanted_taints(node: Object, now: float, *, may_evict: bool) -> list[dict[str, Any]]:
    """All taints of the node: those of others as they are, ours as its conditions say."""
    wanted: dict[tuple[str, str], None] = {}
    state = ready(node)
    if state != "True":
        key = NOT_READY if state == "False" else UNREACHABLE
        wanted[key, "NoSchedule"] = None
        if may_evict:
            wanted[key, "NoExecute"] = None
    for kind, key in BY_CONDITION.items():
        if conditions.is_true(node, kind):
            wanted[key, "NoSchedule"] = None
    if spec(node).get("unschedulable"):
        wanted[UNSCHEDULABLE, "NoSchedule"] = None
    taints = []
    for taint in spec(node).get("taints") or ():
        identity = (taint["key"], taint["effect"])
        if taint["key"] not in OURS or identity in wanted:
            taints.append(taint)
            wanted.pop(identity, None)
    return [*taints, *(_taint(key, effect, now) for key, effect in wanted)]


def _taint(key: str, effect: str, now: float) -> dict[str, Any]:
    taint = {"key": key, "effect": effect}
    needs_time = effect == "NoExecute" or key == UNSCHEDULABLE
    return taint | ({"timeAdded": meta.format_time(now)} if needs_time else {})


def not_ready_pod_conditions(pod: Object, now: float) -> list[Condition] | None:
    """The conditions of a pod on a node that is not ready; None where it was not ready anyway."""
    found = status_of(pod).get("conditions")
    current = conditions.find(found, "Ready")
    if current is None or current.get("status") != "True":
        return None
    condition: Mapping[str, Any] = {**current, "status": "False", "reason": "NodeNotReady"}
    return conditions.updated(found, dict(condition), meta.format_time(now))
