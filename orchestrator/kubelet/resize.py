"""Resizing a pod in place: CPU and memory of its containers change while they run.

    desired (the API's spec) --the node has room--> allocated --control groups are written--> actuated

All of the kubelet works with the allocated pod; a desire that does not fit waits (PodResizePending), and what is
allocated and not yet in the control groups is on its way (PodResizeInProgress). A container that ended takes its
allocation when it is started again. What is allocated and actuated lies in the pod's folder, so that a new kubelet
neither forgets a promise nor believes in one that was never kept; a container without a record has what is allocated.
Source: Kubernetes docs, "Resize CPU and Memory Resources assigned to Containers"; KEP-1287; kubelet's allocation
manager and computePodResizeAction.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from msgspec import Struct, field

from orchestrator.api import meta, quantity
from orchestrator.api.meta import Object
from orchestrator.kubelet import podspec
from orchestrator.kubelet.podspec import Container
from orchestrator.kubelet.runtime.interface import PodState

RESIZABLE = ("cpu", "memory")
PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"

Resources = Mapping[str, Any]  # a container's `resources`
Condition = dict[str, Any]


class Resizing(Struct):
    """Of one pod: what is on record of its resources, by container, and what there is to say of a resize."""

    file: Path
    allocated: dict[str, Resources] = field(default_factory=dict)
    actuated: dict[str, Resources] = field(default_factory=dict)
    pending: Condition | None = None
    in_progress: Condition | None = None

    @classmethod
    def of(cls, pod: Object, file: Path) -> Resizing:
        """As an earlier kubelet left it; with nothing on record a pod has what it asks for."""
        known = orjson.loads(file.read_bytes()) if file.exists() else {}
        conditions = podspec.status(pod).get("conditions") or ()
        found = {condition["type"]: dict(condition) for condition in conditions}
        return cls(
            file,
            known.get("allocated") or resources_of(pod),
            known.get("actuated") or {},
            found.get(PENDING),
            found.get(IN_PROGRESS),
        )

    @property
    def conditions(self) -> list[Condition]:
        return [condition for condition in (self.pending, self.in_progress) if condition is not None]

    def allocate(self, pod: Object) -> None:
        self.allocated = dict(resources_of(pod))
        self._save()

    def actuate(self, container: Container) -> None:
        """The container's control group holds what is allocated to it."""
        self.actuated[container["name"]] = container.get("resources") or {}
        self._save()

    def _save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        made = self.file.with_suffix(".new")
        made.write_bytes(orjson.dumps({"allocated": self.allocated, "actuated": self.actuated}))
        made.replace(self.file)


def resources_of(pod: Object) -> dict[str, Resources]:
    return {
        container["name"]: container.get("resources") or {}
        for kind in ("init", "app")
        for container in podspec.containers(pod, kind)
    }


def is_allocated(pod: Object, allocated: Mapping[str, Resources]) -> bool:
    return not any(differing(wanted, allocated.get(name, wanted)) for name, wanted in resources_of(pod).items())


def is_outstanding(pod: Object, actuated: Mapping[str, Resources], state: PodState) -> bool:
    """Whether a container of the (allocated) pod runs with other resources than it has."""
    wanted = resources_of(pod)
    running = [found.name for found in state.running if found.name in wanted]
    return any(differing(wanted[name], actuated.get(name, wanted[name])) for name in running)


def with_allocated(pod: Object, allocated: Mapping[str, Resources]) -> Object:
    """The pod with the resources that are allocated to it, in whatever else it is as the API has it."""
    if is_allocated(pod, allocated):
        return pod
    spec = dict(podspec.spec(pod))
    for name in ("initContainers", "containers"):
        if spec.get(name):
            spec[name] = [_with(container, allocated.get(container["name"])) for container in spec[name]]
    return {**pod, "spec": spec}


def _with(container: Container, resources: Resources | None) -> Container:
    return {**container, "resources": resources} if resources is not None else container


def differing(one: Resources, other: Resources) -> set[str]:
    """Which of CPU and memory differ, in request or limit."""
    return {
        resource
        for resource in RESIZABLE
        for part in ("requests", "limits")
        if _amount(one, part, resource) != _amount(other, part, resource)
    }


def _amount(resources: Resources, part: str, resource: str) -> Any:
    value = (resources.get(part) or {}).get(resource)
    return None if value is None else quantity.parse(value)


def needs_restart(container: Container, resources: set[str]) -> bool:
    return any(
        policy["resourceName"] in resources and policy["restartPolicy"] == "RestartContainer"
        for policy in container.get("resizePolicy") or ()
    )


def condition(
    kind: str, before: Condition | None, now: float, generation: int, reason: str = "", message: str = ""
) -> Condition:
    """A resize condition; its transition is the change of its reason, for its status is always True."""
    is_same = before is not None and before.get("reason", "") == reason
    made: Condition = {
        "type": kind,
        "status": "True",
        "lastProbeTime": meta.format_time(now),
        "lastTransitionTime": before["lastTransitionTime"] if before and is_same else meta.format_time(now),
        "observedGeneration": generation,
    }
    return made | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})


def told(what: str, pod: Object, generation: int, error: str = "") -> str:
    """An event's message: `what`, then the resources as JSON."""
    summary: dict[str, Any] = {}
    for name in ("initContainers", "containers"):
        containers = podspec.spec(pod).get(name) or ()
        if containers:
            summary[name] = [
                {"name": container["name"], "resources": container.get("resources") or {}} for container in containers
            ]
    summary["generation"] = generation
    return f"Pod resize {what}: {orjson.dumps(summary | ({'error': error} if error else {})).decode()}"
