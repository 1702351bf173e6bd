"""DefaultPreemption: which less important Pods have to go so that a Pod fits, and where that hurts least.

For each candidate node all Pods of lower priority are taken away; if the Pod fits then, they are given back one by one,
those first whose disruption budget would be violated and of each kind the most important first, as long as the Pod
still fits. What is left are the victims. Of the candidates the best has the fewest budget violations, then the lowest
highest priority among victims, the smallest sum of priorities, the fewest victims, the latest start of its most
important victim. The snapshot is changed while a node is tried and is the same afterwards.
Source: kube-scheduler's DefaultPreemption; core/v1 PriorityClass; policy/v1 PodDisruptionBudget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
from msgspec import Struct

from orchestrator.api import selectors
from orchestrator.api.meta import Object
from orchestrator.scheduler.framework import Cycle, Diagnosis, Framework, Plugin, histogram
from orchestrator.scheduler.listers import BY_NAMESPACE
from orchestrator.scheduler.pod import Pod

NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_HELPFUL = "Preemption is not helpful for scheduling"


class Preemption(Struct, frozen=True):
    """The node to nominate and the Pods to remove from it, the most important first."""

    node_name: str
    victims: tuple[Pod, ...]
    violations: int


class DefaultPreemption(Plugin):
    name = "DefaultPreemption"

    def __init__(self, args: Mapping[str, Any] | None = None) -> None:
        args = args or {}
        self._percentage = int(args.get("minCandidateNodesPercentage", 10))
        self._absolute = int(args.get("minCandidateNodesAbsolute", 100))

    def preempt(
        self, framework: Framework, cycle: Cycle, diagnosis: Diagnosis, nominated: Sequence[Pod], random: Random
    ) -> Preemption | str:
        """Or the reason, in kube-scheduler's words, why nothing is to be gained."""
        if refusal := _ineligible(cycle, diagnosis):
            return refusal
        rows = np.flatnonzero(diagnosis.resolvable(cycle.snapshot))
        wanted = max(len(rows) * self._percentage // 100, self._absolute)
        if len(rows):
            rows = np.roll(rows, -random.randrange(len(rows)))  # a different first candidate each time
        found: list[Preemption] = []
        reasons: list[tuple[int, str]] = []
        if min(cycle.snapshot.priorities, default=cycle.pod.priority) >= cycle.pod.priority:
            reasons.append((len(rows), NO_VICTIMS))  # nobody anywhere is less important
            return _nothing(diagnosis, len(rows), reasons)
        for row in rows:
            tried = _try(framework, cycle, int(row), nominated)
            if isinstance(tried, Preemption):
                found.append(tried)
                if len(found) >= wanted:
                    break
            else:
                reasons += [(1, reason) for reason in tried]
        if found:
            return min(found, key=_cost)
        return _nothing(diagnosis, len(rows), reasons)


def _nothing(diagnosis: Diagnosis, candidates: int, reasons: list[tuple[int, str]]) -> str:
    reasons = [*reasons, (diagnosis.node_count - candidates, NOT_HELPFUL)]
    said = histogram([reason for reason in reasons if reason[0]])
    return f"0/{diagnosis.node_count} nodes are available: {said}."


def _ineligible(cycle: Cycle, diagnosis: Diagnosis) -> str | None:
    if not cycle.demand.can_preempt:
        return "not eligible due to preemptionPolicy=Never."
    row = cycle.snapshot.row_of.get(cycle.pod.nominated_node)
    if row is not None and diagnosis.resolvable(cycle.snapshot)[row]:
        on_their_way = (pod.is_terminating for pod in _less_important(cycle, row))
        if any(on_their_way):
            return "not eligible due to a terminating pod on the nominated node."
    return None


def _less_important(cycle: Cycle, row: int) -> list[Pod]:
    """The most important first: by priority, then by who has run longer."""
    below = [pod for pod in cycle.snapshot.pods_on[row].values() if pod.priority < cycle.pod.priority]
    return sorted(below, key=lambda pod: (-pod.priority, pod.started or "~", pod.key))


def _try(framework: Framework, cycle: Cycle, row: int, nominated: Sequence[Pod]) -> Preemption | list[str]:
    """The preemption on this node, or why there is none."""
    below = _less_important(cycle, row)
    if not below:
        return [NO_VICTIMS]
    here = [pod for pod in nominated if pod.nominated_node == cycle.snapshot.name_of(row)]

    def fits() -> bool:
        return bool(framework.feasible_beside(cycle, here)[row] if here else framework.feasible(cycle)[row])

    for pod in below:
        cycle.snapshot.remove_pod(pod.key)
    if not fits():
        rejections = framework.explain(cycle, here).rejections
        for pod in below:
            cycle.snapshot.put_pod(pod)
        return [one.reason for one in rejections if one.nodes[row]]
    violating = _violating(cycle, below)
    victims = []
    for pod in sorted(below, key=lambda pod: pod.key not in violating):
        cycle.snapshot.put_pod(pod)
        if not fits():
            cycle.snapshot.remove_pod(pod.key)
            victims.append(pod)
    for pod in victims:
        cycle.snapshot.put_pod(pod)
    victims.sort(key=lambda pod: (-pod.priority, pod.started or "~", pod.key))
    violations = sum(pod.key in violating for pod in victims)
    return Preemption(cycle.snapshot.name_of(row), tuple(victims), violations)


def _violating(cycle: Cycle, pods: Sequence[Pod]) -> set[str]:
    """The Pods whose removal, in this order, some budget does not allow."""
    allowed: dict[int, int] = {}
    found: set[str] = set()
    for pod in pods:
        for budget in cycle.listers.budgets.by_index(BY_NAMESPACE, pod.namespace):
            if not _protects(budget, pod):
                continue
            left = allowed.get(id(budget), (budget.get("status") or {}).get("disruptionsAllowed") or 0) - 1
            allowed[id(budget)] = left
            if left < 0:
                found.add(pod.key)
    return found


def _protects(budget: Object, pod: Pod) -> bool:
    """A Pod that is already being disrupted was counted when its eviction was allowed."""
    selector = selectors.from_json((budget.get("spec") or {}).get("selector"))
    if not pod.labels or selector.is_everything or not selector.matches(pod.labels):
        return False
    return pod.name not in ((budget.get("status") or {}).get("disruptedPods") or {})


def _cost(preemption: Preemption) -> tuple[int, int, int, int, tuple[int, ...]]:
    priorities = [pod.priority for pod in preemption.victims]
    highest = max(priorities, default=-(2**31))
    offset = sum(priority + 2**31 for priority in priorities)  # negative priorities still count as one more victim
    earliest = min((pod.started or "~" for pod in preemption.victims if pod.priority == highest), default="~")
    latest_first = tuple(-ord(character) for character in earliest)
    return preemption.violations, highest, offset, len(priorities), latest_first
