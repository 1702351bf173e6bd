"""The cluster as the scheduler sees it: a row for each node, an array for each quantity.

    rows        free rows are used again; `alive` marks those that are nodes; arrays are grown by an eighth
    resources   `allocatable`, `requested`: [resource, row], the resource's index from `resource_index`; CPU in
                thousandths, bytes, counts; float64 is exact up to 2^53
    labels      a coded column for each key that was ever asked for; taints one coded column of whole sets
    pods        `pods_on[row]`; counts of groups and of affinity terms in `counts`

Invariants: `requested` of a row is the sum over `pods_on[row]`; every count equals one made anew. `generation` rises
with every change of a node (not of a Pod): what depends on nodes alone is kept in `node_answers` until then. What
depends on a row's resources is kept by `by_row`, and computed anew only for rows that were touched since.
A Pod may be on a node that is not (yet) known: it waits in `_homeless` and is counted when the node comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from orchestrator.scheduler.columns import A, CodedColumn, Mask, Numbers, Rows, grown
from orchestrator.scheduler.node import Node, Taint
from orchestrator.scheduler.pod import Demand, HostPort, Pod
from orchestrator.scheduler.podcounts import Group, PodCounts
from orchestrator.scheduler.resources import CPU, EPHEMERAL_STORAGE, MEMORY, PODS

CAPACITY_FIRST = 16
NODE_ANSWERS_MAX = 512
ROW_ANSWERS_MAX = 256
TOUCHED_MAX = 100_000
_CPU, _MEMORY = 0, 1  # rows of `scored`
FIRST_RESOURCES = (CPU, MEMORY, EPHEMERAL_STORAGE, PODS)


Some = slice | Rows  # which rows: all, or these
ALL = slice(None)


class _RowAnswer(Struct):
    """`values` hold for every row that is not in the log of touched rows from `position` on."""

    values: Any
    position: int


class Snapshot:
    """Changed only by `put_node`, `remove_node`, `put_pod` and `remove_pod`; read by everyone."""

    def __init__(self) -> None:
        self.capacity = CAPACITY_FIRST
        self.generation = 0
        self.alive: Mask = np.zeros(self.capacity, np.bool_)
        self.unschedulable: Mask = np.zeros(self.capacity, np.bool_)
        self.resource_index = {name: index for index, name in enumerate(FIRST_RESOURCES)}
        self.allocatable: Numbers = np.zeros((len(FIRST_RESOURCES), self.capacity))
        self.requested: Numbers = np.zeros((len(FIRST_RESOURCES), self.capacity))
        self.free: Numbers = np.zeros((len(FIRST_RESOURCES), self.capacity))  # allocatable - requested
        self.scored: Numbers = np.zeros((2, self.capacity))  # requested CPU and memory with defaults, for scoring
        self.taints: CodedColumn[tuple[Taint, ...]] = CodedColumn(self.capacity)
        self.counts = PodCounts(self.capacity)
        self.nodes: list[Node | None] = [None] * self.capacity
        self.pods_on: list[dict[str, Pod]] = [{} for _ in range(self.capacity)]
        self.row_of: dict[str, int] = {}
        self.pods: dict[str, Pod] = {}
        self.pods_in: dict[str, dict[str, Pod]] = {}  # by namespace
        self.images: dict[str, dict[int, int]] = {}  # name → row → size in bytes
        self.port_rows: dict[tuple[str, int], dict[int, list[HostPort]]] = {}  # (protocol, port) → row → ports in use
        self.priorities: Counter[int] = Counter()  # of all Pods that have a node
        self.claim_users: dict[str, dict[str, Pod]] = {}
        self.node_answers: dict[Hashable, Any] = {}
        self._row_answers: dict[Hashable, _RowAnswer] = {}
        self._touched: list[int] = []  # rows whose resources changed, in order
        self._labels: dict[str, CodedColumn[str]] = {}
        self._free_rows = list(range(self.capacity - 1, -1, -1))
        self._homeless: dict[str, dict[str, Pod]] = {}
        self._vectors: dict[Demand, tuple[tuple[int, float], ...]] = {}

    @property
    def node_count(self) -> int:
        return len(self.row_of)

    def label(self, key: str) -> CodedColumn[str]:
        """The column of a label; made when it is first asked for."""
        column = self._labels.get(key)
        if column is None:
            column = self._labels[key] = CodedColumn(self.capacity)
            for name, row in self.row_of.items():
                column.set(row, self.node(name).labels.get(key))
        return column

    def node(self, name: str) -> Node:
        found = self.nodes[self.row_of[name]]
        assert found is not None
        return found

    def name_of(self, row: int) -> str:
        found = self.nodes[row]
        assert found is not None
        return found.name

    def demanded(self, demand: Demand) -> tuple[tuple[int, float], ...]:
        """(resource index, amount) of a demand, one Pod included."""
        found = self._vectors.get(demand)
        if found is None:
            if len(self._vectors) > NODE_ANSWERS_MAX:
                self._vectors.clear()
            asked = [(self._index_of(resource), float(value)) for resource, value in demand.requests]
            found = self._vectors[demand] = (*asked, (self.resource_index[PODS], 1.0))
        return found

    def divisor(self, index: int) -> tuple[Numbers, Mask | None]:
        """Allocatable amounts of a resource to divide by, 1 where a node has none, and which nodes have some (None
        for all of them)."""
        key = ("divisor", index)
        found: tuple[Numbers, Mask | None] | None = self.node_answers.get(key)
        if found is None:
            amounts = self.allocatable[index]
            has_some = amounts > 0
            has_all = bool(has_some[self.alive].all())
            found = self.remember(key, (np.where(has_some, amounts, 1.0), None if has_all else has_some))
            assert found is not None
        return found

    def pod_count(self, group: Group) -> Numbers:
        """Pods of the group by row."""
        return self.counts.count(group, self._members(group))

    def _members(self, group: Group) -> Iterator[tuple[int, Pod]]:
        for namespace in sorted(group.namespaces):
            for pod in self.pods_in.get(namespace, {}).values():
                row = self.row_of.get(pod.node_name)
                if row is not None:
                    yield row, pod

    def remember(self, key: Hashable, answer: Any) -> Any:
        """Keeps an answer that depends on nodes alone."""
        if len(self.node_answers) >= NODE_ANSWERS_MAX:
            self.node_answers.clear()
        self.node_answers[key] = answer
        return answer

    def by_row(self, key: Hashable, compute: Callable[[Some], NDArray[A]]) -> NDArray[A]:
        """A value for each row that depends on this row's node and resources alone: after one Pod was placed, only its
        node's value is computed. Whoever gets the array must not change it."""
        answer = self._row_answers.get(key)
        if answer is None:
            if len(self._row_answers) >= ROW_ANSWERS_MAX:
                self._row_answers.clear()
            answer = self._row_answers[key] = _RowAnswer(compute(ALL), len(self._touched))
        elif answer.position < len(self._touched):
            touched = self._touched[answer.position :]
            if len(touched) * 8 > self.capacity:
                answer.values = compute(ALL)
            else:
                rows = np.array(list(dict.fromkeys(touched)))
                answer.values[rows] = compute(rows)
            answer.position = len(self._touched)
        found: NDArray[A] = answer.values
        return found

    def _touch(self, row: int) -> None:
        if len(self._touched) >= TOUCHED_MAX:
            self._touched.clear()
            self._row_answers.clear()
        self._touched.append(row)

    def put_node(self, node: Node) -> None:
        row = self.row_of.get(node.name)
        if row is None:
            if not self._free_rows:
                self._grow(self.capacity + max(CAPACITY_FIRST, self.capacity // 8))
            row = self.row_of[node.name] = self._free_rows.pop()
        elif self.nodes[row] == node:
            return
        self._forget_images(row)
        self.nodes[row] = node
        self.alive[row] = True
        self.unschedulable[row] = node.is_unschedulable
        self.taints.set(row, node.taints or None)
        for key, column in self._labels.items():
            column.set(row, node.labels.get(key))
        indexes = [self._index_of(resource) for resource in node.allocatable]
        self.allocatable[:, row] = 0
        self.allocatable[indexes, row] = list(node.allocatable.values())
        self.free[:, row] = self.allocatable[:, row] - self.requested[:, row]
        for image, size in node.images.items():
            self.images.setdefault(image, {})[row] = size
        self._changed()
        for pod in self._homeless.pop(node.name, {}).values():
            self._settle(pod, row, 1)

    def remove_node(self, name: str) -> None:
        row = self.row_of.get(name)
        if row is None:
            return
        left = dict(self.pods_on[row])
        for pod in left.values():
            self._settle(pod, row, -1)
        if left:
            self._homeless[name] = left
        self._forget_images(row)
        del self.row_of[name]
        self.nodes[row] = None
        self.alive[row] = False
        self.unschedulable[row] = False
        self.taints.set(row, None)
        for column in self._labels.values():
            column.set(row, None)
        self.allocatable[:, row] = self.free[:, row] = self.requested[:, row] = 0
        self._free_rows.append(row)
        self._changed()

    def put_pod(self, pod: Pod) -> None:
        """A Pod that has a node; in place of what was known of it."""
        if pod.key in self.pods:
            self.remove_pod(pod.key)
        self.pods[pod.key] = pod
        self.priorities[pod.priority] += 1
        self.pods_in.setdefault(pod.namespace, {})[pod.key] = pod
        for claim in pod.claims:
            self.claim_users.setdefault(claim, {})[pod.key] = pod
        row = self.row_of.get(pod.node_name)
        if row is None:
            self._homeless.setdefault(pod.node_name, {})[pod.key] = pod
        else:
            self._settle(pod, row, 1)

    def remove_pod(self, key: str) -> Pod | None:
        pod = self.pods.pop(key, None)
        if pod is None:
            return None
        self.priorities[pod.priority] -= 1
        if not self.priorities[pod.priority]:
            del self.priorities[pod.priority]
        _take(self.pods_in, pod.namespace, key)
        for claim in pod.claims:
            _take(self.claim_users, claim, key)
        row = self.row_of.get(pod.node_name)
        if row is None:
            _take(self._homeless, pod.node_name, key)
        else:
            self._settle(pod, row, -1)
        return pod

    def _settle(self, pod: Pod, row: int, sign: int) -> None:
        """The Pod's weight comes to the row or leaves it."""
        demand = pod.demand
        if sign > 0:
            self.pods_on[row][pod.key] = pod
        else:
            del self.pods_on[row][pod.key]
        for index, value in self.demanded(demand):
            self.requested[index, row] += sign * value
            self.free[index, row] -= sign * value
        self._touch(row)
        self.scored[_CPU, row] += sign * demand.scored_cpu_millis
        self.scored[_MEMORY, row] += sign * demand.scored_memory_bytes
        for port in demand.host_ports:
            rows = self.port_rows.setdefault((port.protocol, port.port), {})
            if sign > 0:
                rows.setdefault(row, []).append(port)
            else:
                rows[row].remove(port)
                if not rows[row]:
                    del rows[row]
        self.counts.add(pod, row, sign)

    def _index_of(self, resource: str) -> int:
        index = self.resource_index.get(resource)
        if index is None:
            index = self.resource_index[resource] = len(self.resource_index)
            empty = np.zeros((1, self.capacity))
            self.allocatable = np.concatenate((self.allocatable, empty))
            self.requested = np.concatenate((self.requested, empty))
            self.free = np.concatenate((self.free, empty))
        return index

    def _forget_images(self, row: int) -> None:
        node = self.nodes[row]
        for image in node.images if node else ():
            rows = self.images[image]
            del rows[row]
            if not rows:
                del self.images[image]

    def _grow(self, capacity: int) -> None:
        added = capacity - self.capacity
        self.alive, self.unschedulable = grown(self.alive, capacity), grown(self.unschedulable, capacity)
        self.allocatable, self.requested = grown(self.allocatable, capacity), grown(self.requested, capacity)
        self.free, self.scored = grown(self.free, capacity), grown(self.scored, capacity)
        self.taints.grow(capacity)
        for column in self._labels.values():
            column.grow(capacity)
        self.counts.grow(capacity)
        self.nodes += [None] * added
        self.pods_on += [{} for _ in range(added)]
        self._free_rows = list(range(capacity - 1, self.capacity - 1, -1))
        self.capacity = capacity
        self._changed()

    def _changed(self) -> None:
        self.generation += 1
        self._touched.clear()
        self._row_answers.clear()
        self.node_answers.clear()


def _take(index: dict[str, dict[str, Pod]], place: str, key: str) -> None:
    found = index[place]
    del found[key]
    if not found:
        del index[place]
