"""Whether a pod may be on a node by its node selector, its required node affinity and its tolerations.

Only what a DaemonSet needs: it must know which nodes to serve before any pod is there to be scheduled.
Source: Concepts, Assigning Pods to Nodes; API reference, NodeSelectorTerm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.selectors import Requirement
from orchestrator.controllers.fields import spec
from orchestrator.controllers.tainteviction import tolerates


def is_selected(pod_spec: Mapping[str, Any], node: Object) -> bool:
    """The node's labels and name fit. Terms are alternatives; a term without requirements matches nothing."""
    labels = meta.labels(node)
    if any(labels.get(name) != value for name, value in (pod_spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(term_fits(term, node) for term in required.get("nodeSelectorTerms") or ())


def term_fits(term: Mapping[str, Any], node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    named = {"metadata.name": meta.name(node)}
    return all(_requirement(each).matches(meta.labels(node)) for each in expressions) and all(
        _requirement(each).matches(named) for each in fields
    )


def _requirement(expression: Mapping[str, Any]) -> Requirement:
    return Requirement(expression["key"], expression["operator"], frozenset(expression.get("values") or ()))


def is_tolerated(tolerations: Iterable[Mapping[str, Any]], node: Object, effects: Iterable[str]) -> bool:
    """Whether every taint of these effects is tolerated."""
    tolerations, effects = list(tolerations), set(effects)
    taints = [taint for taint in spec(node).get("taints") or () if taint["effect"] in effects]
    return all(any(tolerates(each, taint) for each in tolerations) for taint in taints)
