"""The graph of owners: which object is owned by which, as the garbage collector knows it. Pure data, no I/O.

A node is an object's uid, where it lives, and its owner references; its dependents are kept beside it. An owner that is
only referred to, never seen, is a *virtual* node: whether it exists must be asked of the server. Observing an object,
or its end, says which uids are now to be looked at. A namespaced owner counts only for dependents in its namespace.
Source: Concepts, "Garbage Collection", "Owners and dependents".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Node(Struct, eq=False):
    uid: str
    resource: Resource | None  # None where a virtual node's kind is not served
    namespace: str
    name: str
    owners: list[dict[str, Any]] = field(default_factory=list)
    dependents: dict[str, Node] = field(default_factory=dict)
    is_deleting: bool = False
    is_foreground: bool = False  # deleting, and waiting for its dependents
    is_orphaning: bool = False  # deleting, and waiting until its dependents are released
    is_virtual: bool = False

    def blocks(self, owner_uid: str) -> bool:
        """Whether this dependent holds back the foreground deletion of that owner."""
        return any(ref["uid"] == owner_uid and ref.get("blockOwnerDeletion") for ref in self.owners)


class Attention(Struct, frozen=True):
    """Uids to look at: may be deleted, and are to release their dependents."""

    delete: list[str] = field(default_factory=list)
    orphan: list[str] = field(default_factory=list)


class OwnerGraph:
    """Nodes by uid."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, uid: str) -> Node | None:
        return self._nodes.get(uid)

    def observe(self, resource: Resource, obj: Object) -> Attention:
        """An object is there, new or changed."""
        uid = meta.uid(obj)
        node = self._nodes.get(uid)
        found = Attention()
        if node is None:
            node = self._nodes[uid] = Node(uid, resource, meta.namespace(obj), meta.name(obj))
        elif node.is_virtual:
            node.is_virtual = False
            misplaced = [dep.uid for dep in node.dependents.values() if not owns(meta.namespace(obj), dep.namespace)]
            found.delete.extend(misplaced)
        node.resource, node.namespace, node.name = resource, meta.namespace(obj), meta.name(obj)
        self._set_owners(node, meta.owner_references(obj), found)
        was_foreground, was_orphaning = node.is_foreground, node.is_orphaning
        finalizers = meta.finalizers(obj)
        node.is_deleting = meta.is_deleting(obj)
        node.is_foreground = node.is_deleting and FOREGROUND in finalizers
        node.is_orphaning = node.is_deleting and ORPHAN in finalizers
        if node.is_foreground and not was_foreground:
            found.delete.extend([*node.dependents, uid])
        if node.is_orphaning and not was_orphaning:
            found.orphan.append(uid)
        return found

    def forget(self, uid: str) -> Attention:
        """An object is gone: its dependents may be garbage, its foreground owners may go on."""
        node = self._nodes.pop(uid, None)
        found = Attention()
        if node is None:
            return found
        for ref in node.owners:
            self._leave(node, ref["uid"], found)
        if node.dependents:
            # Dependents keep the place as a virtual node until each of them has been looked at.
            node.is_virtual, node.is_deleting, node.is_foreground, node.is_orphaning = True, False, False, False
            node.owners = []
            self._nodes[uid] = node
            found.delete.extend(node.dependents)
        return found

    def _set_owners(self, node: Node, owners: list[dict[str, Any]], found: Attention) -> None:
        before = {ref["uid"]: ref for ref in node.owners}
        after = {ref["uid"]: ref for ref in owners}
        changed = before != after
        node.owners = owners
        for uid in before:
            if uid not in after:
                self._leave(node, uid, found)
        for uid, ref in after.items():
            owner = self._nodes.get(uid)
            if owner is None:
                owner = self._nodes[uid] = Node(uid, None, node.namespace, ref["name"], is_virtual=True)
            owner.dependents[node.uid] = node
            if uid not in before and (
                owner.is_virtual or owner.is_foreground or not owns(owner.namespace, node.namespace)
            ):
                found.delete.append(node.uid)
            elif changed and owner.is_foreground:
                found.delete.append(uid)  # it may block no more

    def _leave(self, node: Node, owner_uid: str, found: Attention) -> None:
        owner = self._nodes.get(owner_uid)
        if owner is None:
            return
        owner.dependents.pop(node.uid, None)
        if owner.is_foreground:
            found.delete.append(owner_uid)
        elif owner.is_virtual and not owner.dependents:
            del self._nodes[owner_uid]


def owns(owner_namespace: str, dependent_namespace: str) -> bool:
    """A cluster-scoped owner may own anything, a namespaced one only what is in its namespace."""
    return owner_namespace in ("", dependent_namespace)


class Delete(Struct, frozen=True):
    propagation: str


class ReleaseOwners(Struct, frozen=True):
    """Owner references to remove: the object lives on by its other owners."""

    uids: frozenset[str]


class Unblock(Struct, frozen=True):
    """Takes blockOwnerDeletion from all references, then deletes in the foreground: breaks a circle of owners."""


class FinishForeground(Struct, frozen=True):
    """Removes the foreground finalizer: nothing blocks any more."""


Verdict = Delete | ReleaseOwners | Unblock | FinishForeground | None


def judge_foreground(node: Node) -> tuple[Verdict, list[str]]:
    """Of an object that waits for its dependents: go on, or which of them to look at."""
    blocking = [dep for dep in node.dependents.values() if dep.blocks(node.uid)]
    if not blocking:
        return FinishForeground(), []
    return None, [dep.uid for dep in blocking if not dep.is_foreground]


def judge(
    node: Node, references: list[dict[str, Any]], finalizers: Iterable[str], dangling: set[str], waiting: set[str]
) -> Verdict:
    """Of an object with owners: `dangling` are those that do not exist, `waiting` those in foreground deletion."""
    if not references:
        return None
    if any(ref["uid"] not in dangling and ref["uid"] not in waiting for ref in references):
        gone = dangling | waiting
        return ReleaseOwners(frozenset(gone)) if gone else None
    if waiting and node.dependents:
        if any(dep.is_foreground for dep in node.dependents.values()):
            return Unblock()
        return Delete("Foreground")
    finalizers = list(finalizers)
    if ORPHAN in finalizers:
        return Delete("Orphan")
    return Delete("Foreground" if FOREGROUND in finalizers else "Background")
