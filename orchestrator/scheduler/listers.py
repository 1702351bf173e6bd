"""What plugins look up besides nodes and Pods: the caches of informers, which tests fill by hand."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from orchestrator.api import meta, selectors
from orchestrator.api.meta import Object
from orchestrator.api.selectors import LabelSelector
from orchestrator.client.cache import Cache, by_namespace
from orchestrator.scheduler.pod import Pod

BY_NAMESPACE = "namespace"
SELECTORS_MAX = 4096


class Listers(Struct):
    """`workloads` are the caches of ReplicationControllers, ReplicaSets and StatefulSets by kind."""

    namespaces: Cache = field(default_factory=Cache)
    services: Cache = field(default_factory=Cache)
    workloads: dict[str, Cache] = field(default_factory=dict)
    claims: Cache = field(default_factory=Cache)
    volumes: Cache = field(default_factory=Cache)
    classes: Cache = field(default_factory=Cache)
    csi_nodes: Cache = field(default_factory=Cache)
    budgets: Cache = field(default_factory=Cache)
    _selectors: dict[tuple[object, ...], LabelSelector | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for cache in (self.services, self.budgets):
            cache.add_index(BY_NAMESPACE, by_namespace)

    def namespace_labels(self, namespace: str) -> Mapping[str, str]:
        found = self.namespaces.get(namespace)
        return meta.labels(found) if found else {}

    def services_changed(self) -> None:
        """Forget which Services select which Pods."""
        self._selectors.clear()

    def owner_selector(self, pod: Pod) -> LabelSelector | None:
        """The Pods that belong with this one: those its Services and its workload select. None where nothing does."""
        key = (pod.namespace, pod.owner_uid, *sorted(pod.labels.items()))
        if key in self._selectors:
            return self._selectors[key]
        if len(self._selectors) >= SELECTORS_MAX:
            self._selectors.clear()
        found, is_complete = self._owner_selector(pod)
        if is_complete:
            self._selectors[key] = found
        return found

    def _owner_selector(self, pod: Pod) -> tuple[LabelSelector | None, bool]:
        """And whether the owner was known: a workload may be heard of after its first Pod."""
        labels: dict[str, str] = {}
        for service in self.services.by_index(BY_NAMESPACE, pod.namespace):
            wanted = (service.get("spec") or {}).get("selector") or {}
            if wanted and wanted.items() <= pod.labels.items():
                labels |= wanted
        requirements = list(selectors.from_labels(labels).requirements)
        cache = self.workloads.get(pod.owner_kind)
        owner = cache.get(meta.join_key(pod.namespace, pod.owner_name)) if cache else None
        if owner is not None:
            requirements += _selector_of(owner).requirements
        selector = LabelSelector(tuple(dict.fromkeys(requirements))) if requirements else None
        return selector, owner is not None or cache is None


def _selector_of(workload: Object) -> LabelSelector:
    selector = (workload.get("spec") or {}).get("selector") or {}
    if workload.get("kind") == "ReplicationController":
        return selectors.from_labels(selector)
    return selectors.from_json(selector)
