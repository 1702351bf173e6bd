"""The terms of a Pod's spec that choose nodes or other Pods: node selectors, tolerations, affinity, spread.

Each is parsed once into a frozen value that can be a dictionary key, for Pods of one template share their answers.
Source: core/v1 NodeSelector, Toleration, PodAffinityTerm, TopologySpreadConstraint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.api.selectors import NOTHING, LabelSelector, Requirement, from_json
from orchestrator.scheduler.node import Taint

NAME_FIELD = "metadata.name"


class NodeTerm(Struct, frozen=True):
    """Requirements on labels and on fields, all of which hold; a term with none matches nothing."""

    labels: tuple[Requirement, ...]
    fields: tuple[Requirement, ...]

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        if not self.labels and not self.fields:
            return False
        return all(one.matches(labels) for one in self.labels) and all(
            one.matches({NAME_FIELD: name}) for one in self.fields
        )


class PreferredNodeTerm(Struct, frozen=True):
    weight: int
    term: NodeTerm


class NodeSelector(Struct, frozen=True):
    """`selector` (spec.nodeSelector) holds, and one of `terms`, where there are any (None: no affinity is required)."""

    selector: tuple[Requirement, ...] = ()
    terms: tuple[NodeTerm, ...] | None = None

    @property
    def is_everything(self) -> bool:
        return not self.selector and self.terms is None

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        if not all(one.matches(labels) for one in self.selector):
            return False
        return self.terms is None or any(term.matches(name, labels) for term in self.terms)


class Toleration(Struct, frozen=True):
    """An empty key with Exists tolerates every key, an empty effect every effect."""

    key: str
    operator: str
    value: str
    effect: str

    def tolerates(self, taint: Taint) -> bool:
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        match self.operator:
            case "Exists":
                return True
            case "Lt" | "Gt":
                return self._compares(taint.value)
        return self.value == taint.value

    def _compares(self, value: str) -> bool:
        """KEP-5471: the taint's value is below (Lt) or above (Gt) the toleration's, both whole numbers."""
        try:
            return int(value) < int(self.value) if self.operator == "Lt" else int(value) > int(self.value)
        except ValueError:
            return False


class PodTerm(Struct, frozen=True):
    """The Pods of some namespaces that a selector matches, in one domain of a topology key. With neither namespaces
    nor a selector of namespaces it means the Pod's own, which is filled in when it is parsed."""

    namespaces: frozenset[str]
    namespace_selector: LabelSelector
    selector: LabelSelector
    topology_key: str

    def matches(self, namespace: str, namespace_labels: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        is_named = namespace in self.namespaces or (
            not self.namespace_selector.nothing and self.namespace_selector.matches(namespace_labels)
        )
        return is_named and self.selector.matches(labels)


class WeightedPodTerm(Struct, frozen=True):
    """`weight` is negative for anti-affinity."""

    weight: int
    term: PodTerm


class PodAffinity(Struct, frozen=True):
    required: tuple[PodTerm, ...] = ()
    required_anti: tuple[PodTerm, ...] = ()
    preferred: tuple[WeightedPodTerm, ...] = ()


class SpreadConstraint(Struct, frozen=True):
    max_skew: int
    topology_key: str
    is_hard: bool
    selector: LabelSelector
    min_domains: int = 1
    honors_affinity: bool = True
    honors_taints: bool = False
    match_label_keys: tuple[str, ...] = ()

    def for_labels(self, labels: Mapping[str, str]) -> SpreadConstraint:
        """With the Pod's own values of `match_label_keys` in the selector."""
        if not self.match_label_keys:
            return self
        return replace(self, selector=with_label_keys(self.selector, self.match_label_keys, labels))


def with_label_keys(selector: LabelSelector, keys: Iterable[str], labels: Mapping[str, str]) -> LabelSelector:
    """The selector narrowed to Pods that have the same values; the API server may have done so already."""
    known = set(selector.requirements)
    added = [Requirement(key, "In", frozenset((labels[key],))) for key in keys if key in labels]
    missing = tuple(requirement for requirement in added if requirement not in known)
    return LabelSelector(selector.requirements + missing, selector.nothing) if missing else selector


def requirement(expression: Mapping[str, Any]) -> Requirement:
    return Requirement(expression["key"], expression["operator"], frozenset(expression.get("values") or ()))


def node_term(term: Mapping[str, Any]) -> NodeTerm:
    return NodeTerm(
        tuple(requirement(expression) for expression in term.get("matchExpressions") or ()),
        tuple(requirement(expression) for expression in term.get("matchFields") or ()),
    )


def node_selector(selector: Mapping[str, Any] | None) -> NodeSelector:
    """Of a core/v1 NodeSelector, as in a PersistentVolume's node affinity."""
    if selector is None:
        return NodeSelector()
    return NodeSelector(terms=tuple(node_term(term) for term in selector.get("nodeSelectorTerms") or ()))


def pod_node_selector(spec: Mapping[str, Any]) -> NodeSelector:
    """What a Pod requires of its node: spec.nodeSelector and the required node affinity."""
    required = _affinity(spec, "nodeAffinity").get("requiredDuringSchedulingIgnoredDuringExecution")
    labels = spec.get("nodeSelector") or {}
    selector = tuple(Requirement(key, "In", frozenset((value,))) for key, value in sorted(labels.items()))
    return NodeSelector(selector, node_selector(required).terms)


def preferred_node_terms(spec: Mapping[str, Any]) -> tuple[PreferredNodeTerm, ...]:
    preferred = _affinity(spec, "nodeAffinity").get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(PreferredNodeTerm(term["weight"], node_term(term["preference"])) for term in preferred)


def tolerations(spec: Mapping[str, Any]) -> tuple[Toleration, ...]:
    return tuple(
        Toleration(
            one.get("key") or "", one.get("operator") or "Equal", one.get("value") or "", one.get("effect") or ""
        )
        for one in spec.get("tolerations") or ()
    )


def pod_affinity(spec: Mapping[str, Any], namespace: str, labels: Mapping[str, str]) -> PodAffinity:
    affinity, anti = _affinity(spec, "podAffinity"), _affinity(spec, "podAntiAffinity")
    if not affinity and not anti:
        return PodAffinity()

    def parse(term: Mapping[str, Any]) -> PodTerm:
        return _pod_term(term, namespace, labels)

    required, preferred = (
        "requiredDuringSchedulingIgnoredDuringExecution",
        "preferredDuringSchedulingIgnoredDuringExecution",
    )
    weighted = [
        WeightedPodTerm(sign * term["weight"], parse(term["podAffinityTerm"]))
        for sign, source in ((1, affinity), (-1, anti))
        for term in source.get(preferred) or ()
    ]
    return PodAffinity(
        tuple(parse(term) for term in affinity.get(required) or ()),
        tuple(parse(term) for term in anti.get(required) or ()),
        tuple(weighted),
    )


def _pod_term(term: Mapping[str, Any], namespace: str, labels: Mapping[str, str]) -> PodTerm:
    names = frozenset(term.get("namespaces") or ())
    selected = term.get("namespaceSelector")
    selector = with_label_keys(from_json(term.get("labelSelector")), term.get("matchLabelKeys") or (), labels)
    if not names and selected is None:
        names = frozenset((namespace,))
    return PodTerm(names, from_json(selected) if selected is not None else NOTHING, selector, term["topologyKey"])


def spread_constraints(spec: Mapping[str, Any]) -> tuple[SpreadConstraint, ...]:
    return tuple(spread_constraint(constraint) for constraint in spec.get("topologySpreadConstraints") or ())


def spread_constraint(constraint: Mapping[str, Any]) -> SpreadConstraint:
    return SpreadConstraint(
        max_skew=constraint["maxSkew"],
        topology_key=constraint["topologyKey"],
        is_hard=constraint.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
        selector=from_json(constraint.get("labelSelector")),
        min_domains=constraint.get("minDomains") or 1,
        honors_affinity=constraint.get("nodeAffinityPolicy", "Honor") == "Honor",
        honors_taints=constraint.get("nodeTaintsPolicy", "Ignore") == "Honor",
        match_label_keys=tuple(constraint.get("matchLabelKeys") or ()),
    )


def _affinity(spec: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (spec.get("affinity") or {}).get(kind) or {}
    return found
