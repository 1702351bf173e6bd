"""What both kinds of admission policies share: which policies and bindings a request meets, parameters, conditions.

A policy says what must hold, a binding where it holds and with which parameters. What cannot be evaluated counts as the
policy's failurePolicy says. Source: Reference, "Validating Admission Policy"; upstream plugin/policy/generic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from orchestrator.api import meta, selectors
from orchestrator.api.cel import library, objects
from orchestrator.api.cel.engine import (
    COMPILATION_S,
    EVALUATION_S,
    CompileError,
    EvaluationError,
    compile_expression,
)
from orchestrator.api.kinds.policies import variables as names_of
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource, ResourceTable
from orchestrator.api.status import InternalError
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.metrics import family
from orchestrator.apiserver.policies import bindings
from orchestrator.apiserver.request import Attributes, Authorizer
from orchestrator.apiserver.webhooks import matching
from orchestrator.apiserver.webhooks.conversion import Conversions
from orchestrator.apiserver.webhooks.matching import Asked

Json = Mapping[str, Any]
OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT")
CONDITION_NAMES = dict.fromkeys(("object", "oldObject", "request", "authorizer"), "dyn")


class Misconfigured(Exception):
    """A binding that cannot be carried out: its parameters cannot be found."""


class Matched(Struct, frozen=True):
    """A policy that a request meets, in the version that its rule names."""

    policy: Object
    asked: Asked
    row: Resource


class Policies:
    """`policies` and `bindings` are the two kinds; both are followed through `lookup`."""

    policies: Resource
    bindings: Resource
    operations: tuple[str, ...] = OPERATIONS
    resources = ("*", "*/*")

    def __init__(self, lookup: Lookup, table: ResourceTable, authorizer: Authorizer, conversions: Conversions) -> None:
        self._lookup, self._table, self._authorizer = lookup, table, authorizer
        self._conversions = conversions
        self._policies: dict[str, Object] = {}
        self._bindings: dict[str, Object] = {}
        lookup.subscribe(self.policies, _keeping(self._policies))
        lookup.subscribe(self.bindings, _keeping(self._bindings))

    def _matched(self, attributes: Attributes) -> Iterator[Matched]:
        if not self._policies or not self._bindings or matching.is_exempt(attributes):
            return
        others = matching.equivalents(self._table, attributes)
        for name in sorted(self._policies):
            policy = self._policies[name]
            asked = self._matches(policy["spec"].get("matchConstraints") or {}, attributes, others)
            if asked is not None:
                row = self._table.find(asked.group, asked.version, asked.resource) or attributes.row
                assert row is not None
                yield Matched(policy, asked, row)

    def _matches(self, found: Json, attributes: Attributes, others: list[Resource]) -> Asked | None:
        """The resource as a rule names it; None where the request is not meant."""
        if not matching.matches_object(found.get("objectSelector"), attributes):
            return None
        if not matching.matches_namespace(found.get("namespaceSelector"), attributes, self._lookup):
            return None
        policy = found.get("matchPolicy", "Equivalent")
        excluded = {"rules": found.get("excludeResourceRules") or (), "matchPolicy": policy}
        if any(_names(rule, attributes) for rule in excluded["rules"]) and matching.matched(
            excluded, attributes, others
        ):
            return None
        rules = found.get("resourceRules")
        if not rules:  # a binding that leaves this to its policy
            return Asked(attributes.group, attributes.version, attributes.resource)
        named = [rule for rule in rules if _names(rule, attributes)]
        return matching.matched({"rules": named, "matchPolicy": policy}, attributes, others)

    def _bound(self, policy: Object, attributes: Attributes) -> Iterator[Object]:
        """The bindings of a policy that the request meets, by name."""
        others = matching.equivalents(self._table, attributes)
        for name in sorted(self._bindings):
            binding = self._bindings[name]
            if binding["spec"].get("policyName") == meta.name(policy):
                found = binding["spec"].get("matchResources")
                if not found or self._matches(found, attributes, others) is not None:
                    yield binding

    def _params(self, policy: Object, binding: Object, attributes: Attributes) -> list[Object | None]:
        """The parameters to evaluate with, one after the other. Errors: Misconfigured."""
        kind, ref = policy["spec"].get("paramKind"), binding["spec"].get("paramRef")
        if kind is None:
            return [None]
        row = self._table.by_kind(kind["apiVersion"], kind["kind"])
        if row is None:
            raise Misconfigured(
                f"failed to find resource referenced by paramKind: '{kind['apiVersion']}, Kind={kind['kind']}'"
            )
        if ref is None:
            return [None]
        namespace = ""
        if row.namespaced:
            namespace = ref.get("namespace") or attributes.namespace
            if not namespace:
                raise Misconfigured(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                )
        elif ref.get("namespace"):
            raise Misconfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        found: list[Object | None]
        if name := ref.get("name"):
            one = self._lookup.get(row, namespace, name)
            found = [] if one is None else [one]
        else:
            selector = selectors.from_json(ref.get("selector") or {})
            found = [obj for obj in self._lookup.list(row, namespace) if selector.matches(meta.labels(obj))]
        if not found and ref.get("parameterNotFoundAction") == "Deny":
            raise Misconfigured("no params found for policy binding with `Deny` parameterNotFoundAction")
        return found

    def _bindings_for(self, matched: Matched, attributes: Attributes) -> Object:
        """The variables of a policy's expressions, but for `params` and `variables`."""
        conversion = self._conversions.of(matched.row) if attributes.subresource in ("", "status") else None

        def shown(obj: Object | None) -> Object | None:
            return conversion.to_served(obj) if conversion is not None and obj is not None else obj

        return bindings.variables(attributes, matched.asked, shown, self._lookup)


def _keeping(held: dict[str, Object]) -> Callable[[Object | None, Object | None], None]:
    def changed(old: Object | None, new: Object | None) -> None:
        if new is None:
            held.pop(meta.name(old or {}), None)
        else:
            held[meta.name(new)] = new

    return changed


def _names(rule: Json, attributes: Attributes) -> bool:
    names = rule.get("resourceNames")
    return not names or attributes.name in names


# -- evaluation --------------------------------------------------------------------------------------------------------


def evaluated(expression: str, names: Mapping[str, str], values: Json) -> Any:
    """Errors: EvaluationError, also for what does not compile."""
    try:
        program = compile_expression(objects.plain(expression), names)
    except CompileError as error:
        raise EvaluationError(str(error)) from error
    return program.eval({name: values.get(name) for name in names})


def with_variables(spec: Json, values: Object) -> Object:
    """`values` with `variables`: those that can be evaluated, each seeing the ones before it."""
    made: Object = {}
    values["variables"] = made
    for variable in spec.get("variables") or ():
        try:
            made[variable["name"]] = evaluated(variable["expression"], names_of(spec), values)
        except EvaluationError:
            continue  # whoever names it will fail, and say so
    return values


def cel_lines() -> Iterator[str]:
    """The metrics of all expressions of this process, under upstream's names."""
    for what, took in (("compilation", COMPILATION_S), ("evaluation", EVALUATION_S)):
        name = f"apiserver_cel_{what}_duration_seconds"
        yield from family(name, "histogram", f"How long each {what} of an expression took.", ())
        yield from took.lines(name, "")


def conditions_hold(conditions: list[Any], names: Mapping[str, str], values: Json) -> tuple[bool, list[str]]:
    """(whether all conditions are true, what could not be evaluated). One that is false decides, whatever fails."""
    errors = []
    for condition in conditions:
        try:
            if evaluated(condition["expression"], names, values) is not True:
                return False, []
        except EvaluationError as error:
            errors.append(f"expression '{condition['expression'].strip()}' resulted in error: {error}")
    return not errors, errors


class MatchConditions:
    """The match conditions of webhooks, for `webhooks.admission`."""

    def __init__(self, authorizer: Authorizer, lookup: Lookup) -> None:
        self._authorizer, self._lookup = authorizer, lookup

    def hold(self, conditions: list[Any], attributes: Attributes, failure_policy: str, name: str) -> bool:
        asked = Asked(attributes.group, attributes.version, attributes.resource)
        values = bindings.variables(attributes, asked, lambda obj: obj, self._lookup)
        with library.asking(bindings.questions(self._authorizer, attributes)):
            holds, errors = conditions_hold(conditions, CONDITION_NAMES, values)
        if errors and failure_policy == "Fail":
            raise InternalError(
                f"Internal error occurred: failed to evaluate match conditions of webhook {name}: {errors[0]}"
            )
        return holds
