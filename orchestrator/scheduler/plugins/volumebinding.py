"""VolumeBinding: where a Pod's claims can be had, and which volume each of them will get.

A bound claim binds its Pod to the nodes that its volume's node affinity allows. A claim of a class that waits for its
first consumer is decided with the node: the smallest free volume that suits it there, or a new one where the class has
a provisioner and the node is in its allowed topologies. A claim that should have been bound at once and is not keeps
the Pod waiting. What was promised to one Pod (`_promised`) is not promised to another while the API server is told.
Source: KEP-490 volume topology; core/v1 PersistentVolumeClaim; storage/v1 StorageClass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct

from orchestrator.api import meta, quantity, selectors
from orchestrator.api.meta import Object
from orchestrator.scheduler import terms
from orchestrator.scheduler.changes import NODE_CHANGES, Change, ChangeKind
from orchestrator.scheduler.columns import Mask
from orchestrator.scheduler.framework import Cycle, Plugin, Rejection
from orchestrator.scheduler.listers import Listers
from orchestrator.scheduler.plugins.nodeaffinity import matching_nodes
from orchestrator.scheduler.pod import Pod
from orchestrator.scheduler.snapshot import Snapshot

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
NO_PROVISIONER = "kubernetes.io/no-provisioner"


class Binding(Struct, frozen=True):
    """What a claim gets on the chosen node: a volume that exists, or (None) a new one there."""

    claim: Object
    volume: Object | None


class VolumeBinding(Plugin):
    name = "VolumeBinding"
    hears = NODE_CHANGES | {ChangeKind.STORAGE}

    def __init__(self) -> None:
        self._promised: dict[str, str] = {}  # volume name → claim key

    def rejects(self, cycle: Cycle) -> str | None:
        unbound_at_once = False
        for key in cycle.pod.claims:
            name = meta.split_key(key)[1]
            claim = cycle.listers.claims.get(key)
            if claim is None and key in cycle.pod.ephemeral_claims:
                return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
            if claim is None:
                return f'persistentvolumeclaim "{name}" not found'
            if (claim.get("status") or {}).get("phase") == "Lost":
                volume = (claim.get("spec") or {}).get("volumeName") or ""
                return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
            if meta.is_deleting(claim):
                return f'persistentvolumeclaim "{name}" is being deleted'
            unbound_at_once |= not is_bound(claim) and not waits_for_consumer(claim, cycle.listers)
        return "pod has unbound immediate PersistentVolumeClaims" if unbound_at_once else None

    def filter(self, cycle: Cycle) -> Mask | None:
        if not cycle.pod.claims:
            return None
        return np.logical_and.reduce([self._reachable(cycle), self._bindable(cycle)])

    def explain(self, cycle: Cycle, rejected: Mask) -> Sequence[Rejection]:
        lost = rejected & (not all(_volume_of(claim, cycle.listers) for claim in _claims(cycle, bound=True)))
        conflicting = rejected & ~lost & ~self._reachable(cycle)
        reasons = (
            (lost, "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"),
            (conflicting, "node(s) didn't match PersistentVolume's node affinity"),
            (rejected & ~lost & ~conflicting, "node(s) didn't find available persistent volumes to bind"),
        )
        return [Rejection(nodes, reason, is_resolvable=False) for nodes, reason in reasons if nodes.any()]

    def helps(self, change: Change, pod: Pod) -> bool:
        if change.kind is ChangeKind.STORAGE and change.storage is not None:
            is_claim = change.storage.get("kind") == "PersistentVolumeClaim"
            return not is_claim or meta.key(change.storage) in pod.claims
        node, old = change.better_node, change.old_node
        return node is not None and (old is None or old.labels != node.labels)

    def _reachable(self, cycle: Cycle) -> Mask:
        """The nodes that can reach the volumes of bound claims."""
        mask = cycle.snapshot.alive
        for claim in _claims(cycle, bound=True):
            volume = _volume_of(claim, cycle.listers)
            if volume is None:
                return np.zeros(cycle.snapshot.capacity, np.bool_)
            mask = mask & _nodes_of(cycle.snapshot, volume)
        return mask

    def _bindable(self, cycle: Cycle) -> Mask:
        """The nodes where every unbound claim can be bound. Several claims may compete for the same volumes: then
        each node is looked at by itself."""
        waiting = list(_claims(cycle, bound=False))
        mask = cycle.snapshot.alive
        for claim in waiting:
            mask = mask & self._bindable_alone(cycle, claim)
        if len(waiting) > 1 and any(self._candidates(cycle, claim) for claim in waiting):
            mask = mask.copy()
            for row in np.flatnonzero(mask):
                mask[row] = self._plan(cycle, int(row)) is not None
        return mask

    def _bindable_alone(self, cycle: Cycle, claim: Object) -> Mask:
        mask = _provisionable(cycle, claim)
        for volume in self._candidates(cycle, claim):
            mask = mask | _nodes_of(cycle.snapshot, volume)
        return mask

    def _candidates(self, cycle: Cycle, claim: Object) -> list[Object]:
        """Free volumes that suit the claim, the smallest first."""
        found = [
            volume
            for volume in cycle.listers.volumes.list()
            if suits(volume, claim) and self._promised.get(meta.name(volume), meta.key(claim)) == meta.key(claim)
        ]
        return sorted(found, key=lambda volume: (_capacity(volume), meta.name(volume)))

    def _plan(self, cycle: Cycle, row: int) -> list[Binding] | None:
        taken: set[str] = set()
        plan = []
        for claim in _claims(cycle, bound=False):
            volume = next(
                (
                    one
                    for one in self._candidates(cycle, claim)
                    if meta.name(one) not in taken and _nodes_of(cycle.snapshot, one)[row]
                ),
                None,
            )
            if volume is not None:
                taken.add(meta.name(volume))
            elif not _provisionable(cycle, claim)[row]:
                return None
            plan.append(Binding(claim, volume))
        return plan

    def reserve(self, cycle: Cycle, node_name: str) -> list[Binding]:
        """What is to be bound before the Pod is; promised until `release`."""
        if not cycle.pod.claims:
            return []
        plan = self._plan(cycle, cycle.snapshot.row_of[node_name]) or []
        for binding in plan:
            if binding.volume is not None:
                self._promised[meta.name(binding.volume)] = meta.key(binding.claim)
        return plan

    def release(self, plan: Sequence[Binding]) -> None:
        for binding in plan:
            if binding.volume is not None:
                self._promised.pop(meta.name(binding.volume), None)


def is_bound(claim: Object) -> bool:
    return bool((claim.get("spec") or {}).get("volumeName")) and BIND_COMPLETED in meta.annotations(claim)


def waits_for_consumer(claim: Object, listers: Listers) -> bool:
    spec = claim.get("spec") or {}
    found = listers.classes.get(spec.get("storageClassName") or "")
    return (
        not spec.get("volumeName") and bool(found) and (found or {}).get("volumeBindingMode") == "WaitForFirstConsumer"
    )


def suits(volume: Object, claim: Object) -> bool:
    """Whether the volume is free, or kept for this claim, and has what the claim asks."""
    spec, wanted = volume.get("spec") or {}, claim.get("spec") or {}
    reference = spec.get("claimRef")
    if reference is not None:
        same = (reference.get("namespace"), reference.get("name")) == (meta.namespace(claim), meta.name(claim))
        return same and reference.get("uid") in (None, "", meta.uid(claim))
    if meta.is_deleting(volume) or (volume.get("status") or {}).get("phase") != "Available":
        return False
    asked = ((wanted.get("resources") or {}).get("requests") or {}).get("storage") or "0"
    return (
        (spec.get("storageClassName") or "") == (wanted.get("storageClassName") or "")
        and (spec.get("volumeMode") or "Filesystem") == (wanted.get("volumeMode") or "Filesystem")
        and set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ())
        and _capacity(volume) >= quantity.ceil(asked)
        and (wanted.get("selector") is None or selectors.from_json(wanted["selector"]).matches(meta.labels(volume)))
    )


def _capacity(volume: Object) -> int:
    return quantity.ceil(((volume.get("spec") or {}).get("capacity") or {}).get("storage") or "0")


def _claims(cycle: Cycle, *, bound: bool) -> Iterator[Object]:
    for key in cycle.pod.claims:
        claim = cycle.listers.claims.get(key)
        if claim is not None and is_bound(claim) is bound:
            yield claim


def _volume_of(claim: Object, listers: Listers) -> Object | None:
    return listers.volumes.get(claim["spec"]["volumeName"])


def _nodes_of(snapshot: Snapshot, volume: Object) -> Mask:
    required = ((volume.get("spec") or {}).get("nodeAffinity") or {}).get("required")
    return matching_nodes(snapshot, terms.node_selector(required)) if required else snapshot.alive


def _provisionable(cycle: Cycle, claim: Object) -> Mask:
    """Where a new volume can be made: in the class's topologies, or on the node that was chosen before."""
    nowhere: Mask = np.zeros(cycle.snapshot.capacity, np.bool_)
    found = cycle.listers.classes.get((claim.get("spec") or {}).get("storageClassName") or "")
    if found is None or found.get("provisioner") in (None, "", NO_PROVISIONER):
        return nowhere
    chosen = meta.annotations(claim).get(SELECTED_NODE)
    if chosen:
        if chosen in cycle.snapshot.row_of:
            nowhere[cycle.snapshot.row_of[chosen]] = True
        return nowhere
    topologies = found.get("allowedTopologies")
    if not topologies:
        return cycle.snapshot.alive
    expressions = [
        {
            "matchExpressions": [
                {"key": one["key"], "operator": "In", "values": one["values"]}
                for one in topology.get("matchLabelExpressions") or ()
            ]
        }
        for topology in topologies
    ]
    return matching_nodes(cycle.snapshot, terms.node_selector({"nodeSelectorTerms": expressions}))
