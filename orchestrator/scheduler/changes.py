"""Changes of the cluster that may help a Pod which found no node: what queueing hints are asked about."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from orchestrator.api.meta import Object
from orchestrator.scheduler.node import Node
from orchestrator.scheduler.pod import Pod


class ChangeKind(Enum):
    NODE_ADDED = "NodeAdd"
    NODE_UPDATED = "NodeUpdate"
    NODE_DELETED = "NodeDelete"
    POD_ADDED = "AssignedPodAdd"
    POD_UPDATED = "AssignedPodUpdate"
    POD_DELETED = "AssignedPodDelete"
    STORAGE = "Storage"  # a claim, volume or class was added or changed


NODE_CHANGES = frozenset((ChangeKind.NODE_ADDED, ChangeKind.NODE_UPDATED))
POD_CHANGES = frozenset((ChangeKind.POD_ADDED, ChangeKind.POD_UPDATED, ChangeKind.POD_DELETED))


class Change(Struct, frozen=True):
    """What it is about is in the fields of its kind; the old state is None for what is new."""

    kind: ChangeKind
    node: Node | None = None
    old_node: Node | None = None
    pod: Pod | None = None
    old_pod: Pod | None = None
    storage: Object | None = None

    @property
    def better_node(self) -> Node | None:
        """The node that is new, or as it is now."""
        return self.node if self.kind in NODE_CHANGES else None
