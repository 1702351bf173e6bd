"""Small clusters for the scheduler's tests, from the objects that a user would write."""

from __future__ import annotations

from random import Random
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.scheduler.configuration import Profile, make_framework
from orchestrator.scheduler.framework import Chosen, Cycle, Diagnosis, Framework
from orchestrator.scheduler.listers import Listers
from orchestrator.scheduler.node import parse_node
from orchestrator.scheduler.pod import Demands, Pod, parse_pod
from orchestrator.scheduler.snapshot import Snapshot

HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def node(
    name: str,
    cpu: str = "4",
    memory: str = "8Gi",
    *,
    pods: str = "110",
    zone: str = "",
    labels: dict[str, str] | None = None,
    more: dict[str, str] | None = None,
    images: dict[str, int] | None = None,
    **spec: Any,
) -> Object:
    own = {HOSTNAME: name} | ({ZONE: zone} if zone else {}) | (labels or {})
    return {
        "metadata": {"name": name, "labels": own},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": pods} | (more or {}),
            "images": [{"names": [image], "sizeBytes": size} for image, size in (images or {}).items()],
        },
    }


def pod(
    name: str,
    requests: dict[str, str] | None = None,
    *,
    on: str = "",
    labels: dict[str, str] | None = None,
    namespace: str = "default",
    image: str = "busybox:1",
    ports: list[dict[str, Any]] | None = None,
    owner: Object | None = None,
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> Object:
    container = {"name": "c", "image": image, "resources": {"requests": requests or {}}, "ports": ports or []}
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": labels or {}}
    if owner is not None:
        metadata["ownerReferences"] = [meta.owner_reference(owner)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container], **({"nodeName": on} if on else {}), **spec},
        "status": status or {},
    }


class World:
    """Nodes, Pods that run, and a framework to ask."""

    def __init__(self, *objects: Object, profile: Profile | None = None, seed: int = 1) -> None:
        self.snapshot = Snapshot()
        self.listers = Listers()
        self.demands = Demands()
        self.framework: Framework = make_framework(profile or Profile(), Random(seed))
        for obj in objects:
            self.add(obj)

    def add(self, obj: Object) -> None:
        if "containers" in (obj.get("spec") or {}):
            self.snapshot.put_pod(self.parse(obj))
        else:
            self.snapshot.put_node(parse_node(obj))

    def parse(self, obj: Object) -> Pod:
        return parse_pod(obj, self.demands)

    def cycle(self, obj: Object) -> Cycle:
        return Cycle(self.parse(obj), self.snapshot, self.listers)

    def decide(self, obj: Object, nominated: tuple[Pod, ...] = ()) -> Chosen | Diagnosis:
        return self.framework.decide(self.cycle(obj), nominated)

    def place(self, obj: Object) -> str:
        """The node's name, or the message."""
        decision = self.decide(obj)
        return decision.node_name if isinstance(decision, Chosen) else str(decision)

    def feasible(self, obj: Object) -> list[str]:
        mask = self.framework.feasible(self.cycle(obj))
        return sorted(self.snapshot.name_of(row) for row in mask.nonzero()[0])

    def scores(self, obj: Object, plugin: str) -> dict[str, float] | None:
        found = self.framework.plugin(plugin)
        assert found is not None
        cycle = self.cycle(obj)
        numbers = found.score(cycle, self.framework.feasible(cycle))
        if numbers is None:
            return None
        return {name: float(numbers[row]) for name, row in sorted(self.snapshot.row_of.items())}

    def assume(self, obj: Object) -> str:
        """Decide, and let the Pod be there."""
        decision = self.decide(obj)
        assert isinstance(decision, Chosen), str(decision)
        self.snapshot.put_pod(self.parse(obj).on(decision.node_name))
        return decision.node_name
