"""From informers to the scheduler: nodes and Pods into the snapshot, Pods without a node into the queue.

A Pod that was assumed to be on a node is confirmed when the API server shows it there; while its binding is under way
what the API server shows of it (no node yet) does not undo that. Every change that may help a waiting Pod is told to
the queue. Changes that concern nobody here (of a Pod's status, mostly; a node's heartbeat) are dropped: what is kept
of the object is then the same as before.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import (
    CSINODES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    SERVICES,
    STATEFULSETS,
    STORAGECLASSES,
)
from orchestrator.client.informer import Informer, Informers
from orchestrator.scheduler.changes import Change, ChangeKind
from orchestrator.scheduler.kept import PARSED, TERMINAL, KeptPods, keep_node, keep_selector, node_of, pod_of
from orchestrator.scheduler.listers import Listers
from orchestrator.scheduler.pod import Pod
from orchestrator.scheduler.queue import SchedulingQueue
from orchestrator.scheduler.snapshot import Snapshot

WORKLOADS = {"ReplicationController": REPLICATIONCONTROLLERS, "ReplicaSet": REPLICASETS, "StatefulSet": STATEFULSETS}


class Follower:
    """Owns the snapshot, the assumed Pods and the nominations."""

    def __init__(self, informers: Informers, is_ours: Callable[[str], bool]) -> None:
        self.snapshot = Snapshot()
        self.assumed: dict[str, Pod] = {}
        self.nominated: dict[str, Pod] = {}
        self._is_ours = is_ours  # by scheduler name
        self._queue: SchedulingQueue | None = None
        self._claims_changed: Callable[[], None] = lambda: None
        self.pods = informers.informer(PODS, keep=KeptPods().keep)
        self._nodes = informers.informer(NODES, keep=keep_node)
        storage = {
            resource: informers.informer(resource)
            for resource in (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES, CSINODES)
        }
        services = informers.informer(SERVICES)
        workloads = {kind: informers.informer(resource, keep=keep_selector) for kind, resource in WORKLOADS.items()}
        namespaces, budgets = informers.informer(NAMESPACES), informers.informer(PODDISRUPTIONBUDGETS)
        self.listers = Listers(
            namespaces=namespaces.cache,
            services=services.cache,
            workloads={kind: informer.cache for kind, informer in workloads.items()},
            claims=storage[PERSISTENTVOLUMECLAIMS].cache,
            volumes=storage[PERSISTENTVOLUMES].cache,
            classes=storage[STORAGECLASSES].cache,
            csi_nodes=storage[CSINODES].cache,
            budgets=budgets.cache,
        )
        self._storage = storage
        self._services = services
        self._informers: list[Informer] = [
            self.pods, self._nodes, services, namespaces, budgets, *storage.values(), *workloads.values(),
        ]  # fmt: skip

    def start(self, queue: SchedulingQueue, claims_changed: Callable[[], None]) -> None:
        """Hear of everything from now on, what is there already included."""
        self._queue = queue
        self._claims_changed = claims_changed
        self._nodes.add_handler(self._on_node)
        self.pods.add_handler(self._on_pod)
        self._services.add_handler(self._on_service)
        for informer in self._storage.values():
            informer.add_handler(self._on_storage)

    async def wait_synced(self) -> None:
        for informer in self._informers:
            await informer.wait_synced()

    def assume(self, pod: Pod) -> None:
        """The Pod is on its node as far as decisions go."""
        self.assumed[pod.key] = pod
        self.nominated.pop(pod.key, None)
        self.snapshot.put_pod(pod)

    def forget(self, pod: Pod) -> None:
        """Its binding failed."""
        assumed = self.assumed.get(pod.key)
        if assumed is not None and assumed.uid == pod.uid:  # not a later Pod of that name
            del self.assumed[pod.key]
            self.snapshot.remove_pod(pod.key)
            self._tell(Change(ChangeKind.POD_DELETED, pod=pod))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            assert old is not None
            self._gone(meta.key(old))
        elif new[TERMINAL]:
            self._gone(meta.key(new))
        elif old is not None and not old[TERMINAL] and old[PARSED] == new[PARSED]:
            return
        elif pod_of(new).node_name:
            self._placed(pod_of(new))
        else:
            self._pending(pod_of(new))

    def _gone(self, key: str) -> None:
        self._known_queue.remove(key)
        self.nominated.pop(key, None)
        self.assumed.pop(key, None)
        pod = self.snapshot.remove_pod(key)
        if pod is not None:
            self._tell(Change(ChangeKind.POD_DELETED, pod=pod))

    def _placed(self, pod: Pod) -> None:
        self._known_queue.remove(pod.key)
        self.nominated.pop(pod.key, None)
        assumed = self.assumed.pop(pod.key, None)
        old = self.snapshot.pods.get(pod.key)
        if old is not None and old.uid != pod.uid:
            self._gone(pod.key)
            old = None
        self.snapshot.put_pod(pod)
        if old is None or assumed is not None:
            self._tell(Change(ChangeKind.POD_ADDED, pod=pod))
        elif _counts_differently(old, pod):
            self._tell(Change(ChangeKind.POD_UPDATED, pod=pod, old_pod=old))

    def _pending(self, pod: Pod) -> None:
        assumed = self.assumed.get(pod.key)
        if assumed is not None and assumed.uid == pod.uid:
            if pod.is_terminating:
                self._known_queue.remove(pod.key)
            return
        if pod.key in self.snapshot.pods:  # of an earlier Pod of that name
            self._gone(pod.key)
        if not self._is_ours(pod.scheduler_name):
            return
        if pod.is_terminating:
            self._gone(pod.key)
            return
        if pod.nominated_node:
            self.nominated[pod.key] = pod
        else:
            self.nominated.pop(pod.key, None)
        self._known_queue.put(pod)

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            assert old is not None
            self.snapshot.remove_node(meta.name(old))
            self._tell(Change(ChangeKind.NODE_DELETED, old_node=node_of(old)))
            return
        node, known = node_of(new), node_of(old) if old else None
        if known == node:
            return
        self.snapshot.put_node(node)
        kind = ChangeKind.NODE_ADDED if known is None else ChangeKind.NODE_UPDATED
        self._tell(Change(kind, node=node, old_node=known))

    def _on_service(self, old: Object | None, new: Object | None) -> None:
        self.listers.services_changed()

    def _on_storage(self, old: Object | None, new: Object | None) -> None:
        self._claims_changed()
        if new is not None:
            self._tell(Change(ChangeKind.STORAGE, storage=new))

    def _tell(self, change: Change) -> None:
        self._known_queue.changed(change)

    @property
    def _known_queue(self) -> SchedulingQueue:
        assert self._queue is not None
        return self._queue


def _counts_differently(old: Pod, new: Pod) -> bool:
    """For other Pods: what it asks, what selectors see of it, whether it is on its way out."""
    return old.demand is not new.demand or old.labels != new.labels or old.is_terminating != new.is_terminating
