"""Label and field selectors, parsed once and then asked for each object.

A label selector is a conjunction of requirements: `=`, `!=`, `in`, `notin`, `exists`, `!` (the string grammar of
`?labelSelector=`), or the JSON LabelSelector of a spec (`matchLabels`, `matchExpressions`); nodeSelectorTerms add `Gt`
and `Lt`. A field selector is a conjunction of `path=value` and `path!=value`.
Errors: SelectorError (a ValueError) says what could not be parsed.
Source: Concepts, "Labels and Selectors"; meta/v1 LabelSelector; core/v1 NodeSelectorRequirement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from orchestrator.api import label_grammar
from orchestrator.api.label_grammar import SelectorError


class Requirement(Struct, frozen=True):
    """`operator` is In, NotIn, Exists, DoesNotExist, Gt or Lt; `NotIn` also holds where the key is absent."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt" | "Lt":
                return value is not None and self._compares(value)
        raise SelectorError(f"{self.operator!r} is not a valid label selector operator")

    def _compares(self, value: str) -> bool:
        (bound,) = self.values
        try:
            return int(value) > int(bound) if self.operator == "Gt" else int(value) < int(bound)
        except ValueError:
            return False


class LabelSelector(Struct, frozen=True):
    """All requirements hold. An empty selector matches everything; `NOTHING` matches nothing."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, str]) -> bool:
        return not self.nothing and all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def is_everything(self) -> bool:
        return not self.nothing and not self.requirements

    def __str__(self) -> str:
        return ",".join(_show(requirement) for requirement in self.requirements)


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)

_OPERATORS = {"In": "In", "NotIn": "NotIn", "Exists": "Exists", "DoesNotExist": "DoesNotExist"}


def from_json(selector: Mapping[str, Any] | None) -> LabelSelector:
    """A spec's LabelSelector: null matches nothing, empty matches everything."""
    if selector is None:
        return NOTHING
    requirements = [
        Requirement(key, "In", frozenset((value,))) for key, value in (selector.get("matchLabels") or {}).items()
    ]
    for expression in selector.get("matchExpressions") or ():
        operator = _OPERATORS.get(expression.get("operator", ""))
        if operator is None:
            raise SelectorError(f"{expression.get('operator')!r} is not a valid label selector operator")
        requirements.append(Requirement(expression["key"], operator, frozenset(expression.get("values") or ())))
    return LabelSelector(tuple(requirements))


def from_labels(labels: Mapping[str, str]) -> LabelSelector:
    """The selector of a Service or ReplicationController: a plain map, each pair to be equal."""
    return LabelSelector(tuple(Requirement(key, "In", frozenset((value,))) for key, value in labels.items()))


def parse_labels(text: str) -> LabelSelector:
    """The string grammar: `app=web,tier!=db,env in (a, b),!legacy`."""
    return LabelSelector(tuple(Requirement(*term) for term in label_grammar.parse(text)))


def _show(requirement: Requirement) -> str:
    values = sorted(requirement.values)
    match requirement.operator:
        case "Exists":
            return requirement.key
        case "DoesNotExist":
            return f"!{requirement.key}"
        case "In" | "NotIn" if len(values) == 1:
            return f"{requirement.key}{'=' if requirement.operator == 'In' else '!='}{values[0]}"
        case "In" | "NotIn":
            return f"{requirement.key} {requirement.operator.lower()} ({','.join(values)})"
    return f"{requirement.key}{'>' if requirement.operator == 'Gt' else '<'}{values[0]}"


class FieldTerm(Struct, frozen=True):
    path: str
    value: str
    equal: bool


class FieldSelector(Struct, frozen=True):
    """`matches` takes a function from path to value, so that each kind can say which fields it offers and how an
    absent field reads (usually "")."""

    terms: tuple[FieldTerm, ...] = ()

    def matches(self, value_of: Callable[[str], str]) -> bool:
        return all((value_of(term.path) == term.value) is term.equal for term in self.terms)

    def required(self, path: str) -> str | None:
        """The value that `path` must equal, if the selector says so: what an index can be asked for."""
        return next((term.value for term in self.terms if term.path == path and term.equal), None)

    def __str__(self) -> str:
        return ",".join(f"{term.path}{'=' if term.equal else '!='}{_escape(term.value)}" for term in self.terms)


def parse_fields(text: str) -> FieldSelector:
    """`metadata.name=web,spec.nodeName!=`; `\\` escapes `,`, `=` and itself in a value."""
    terms = []
    for part in re.split(r"(?<!\\),", text):
        if not part:
            continue
        match = re.match(r"^([^=!]*)(!=|==|=)((?:[^\\=,]|\\.)*)$", part)
        if match is None:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{part}'")
        path, operator, value = match.groups()
        terms.append(FieldTerm(path.strip(), re.sub(r"\\(.)", r"\1", value), operator != "!="))
    return FieldSelector(tuple(terms))


def _escape(value: str) -> str:
    return re.sub(r"([\\,=])", r"\\\1", value)
