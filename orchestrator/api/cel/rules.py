"""`x-kubernetes-validations`: the rules of a schema, in CEL.

A rule stands at a node of the schema and judges each value there, as `self`; one that names `oldSelf` judges changes,
where there is an old value to compare with. What did not change is not held against an update, but for such rules.
Source: Tasks, "Validation rules"; KEP-2876, KEP-4008 (ratcheting).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from orchestrator.api.cel import engine, estimate
from orchestrator.api.cel.engine import TOO_DEAR, CompileError, EvaluationError, Program
from orchestrator.api.kinds import faults
from orchestrator.api.status import Cause
from orchestrator.api.structural.compiled import Structural
from orchestrator.api.structural.formats import duration_s

ABSENT = object()
VARIABLES = {"self": "dyn", "oldSelf": "dyn", "oldSelf__": "dyn"}
MESSAGE_BYTES_MAX = 5120
REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
BLOCKING = ("FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany",
            "FieldValueTypeInvalid")  # fmt: skip
NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)


class Rule(Struct, frozen=True):
    raw: Mapping[str, Any]
    program: Program | None
    compile_error: str
    message: Program | None
    without_old: Program | None  # a rule with optionalOldSelf, for values that replace none

    @property
    def uses_old(self) -> bool:
        return self.program is not None and "oldSelf" in self.program.names

    @property
    def text(self) -> str:
        return str(self.raw.get("rule") or "").strip()


def _compile(text: str) -> tuple[Program | None, str]:
    try:
        return engine.compile_expression(text, VARIABLES), ""
    except CompileError as error:
        return None, str(error)


def _rules(node: Structural) -> list[Rule]:
    made = []
    for raw in node.raw.get("x-kubernetes-validations") or ():
        program, error = _compile(str(raw.get("rule") or ""))
        message = _compile(raw["messageExpression"])[0] if raw.get("messageExpression") else None
        without_old = None
        if program is not None and raw.get("optionalOldSelf"):
            rule = raw["rule"]
            program = _compile(f"cel.bind(oldSelf, optional.of(oldSelf__), ({rule}))")[0]
            without_old = _compile(f"cel.bind(oldSelf, optional.none(), ({rule}))")[0]
        made.append(Rule(raw, program, error, message, without_old))
    return made


class RuleSet:
    """The rules of one schema, compiled when they are first asked."""

    def __init__(self, node: Structural) -> None:
        self._node = node
        self._rules: dict[int, list[Rule]] = {}
        self.is_empty = not any(one.raw.get("x-kubernetes-validations") for one in _nodes(node))

    def faults(self, value: Any, old: Any = ABSENT) -> list[Cause]:
        return list(self._visit(value, self._node, "", old))

    def _of(self, node: Structural) -> list[Rule]:
        if not node.raw.get("x-kubernetes-validations"):
            return []
        found = self._rules.get(id(node))
        if found is None:
            found = self._rules[id(node)] = _rules(node)
        return found

    def _visit(self, value: Any, node: Structural, path: str, old: Any) -> Iterator[Cause]:
        if value is not None:
            for rule in self._of(node):
                yield from _judge(rule, value, node, path, old)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for name, item in value.items():
                inner = node.properties.get(name)
                below = f"{path}.{name}" if path else name
                if inner is None and node.additional is not None:
                    inner, below = node.additional, f"{path}[{name}]"
                if inner is not None:
                    yield from self._visit(item, inner, below, before.get(name, ABSENT))
        elif isinstance(value, list) and node.items is not None:
            known = _by_key(old, node)
            for index, item in enumerate(value):
                yield from self._visit(item, node.items, f"{path}[{index}]", known.get(_key(item, node), ABSENT))


def _nodes(node: Structural) -> Iterator[Structural]:
    yield node
    for inner in (*node.properties.values(), node.items, node.additional):
        if inner is not None:
            yield from _nodes(inner)


def _key(item: Any, node: Structural) -> str:
    return repr([item.get(key) for key in node.list_keys]) if isinstance(item, dict) else ""


def _by_key(old: Any, node: Structural) -> dict[str, Any]:
    """Only the items of a list of type map can be compared with older ones."""
    if node.list_type != "map" or not isinstance(old, list):
        return {}
    return {_key(item, node): item for item in old}


def _judge(rule: Rule, value: Any, node: Structural, path: str, old: Any) -> Iterator[Cause]:
    place, kind = path or "<nil>", node.type
    if rule.program is None:
        yield faults.invalid(place, kind, f"rule compile error: {rule.compile_error}")
        return
    program, is_new = rule.program, old is ABSENT or old is None
    bindings = {"self": bound(value, node)}
    if is_new:
        if rule.without_old is not None:
            program = rule.without_old
        elif rule.uses_old:
            return
    else:
        bindings["oldSelf"] = bindings["oldSelf__"] = bound(old, node)
        if old == value and not rule.uses_old:
            return
    try:
        holds = program.eval(bindings)
    except EvaluationError as error:
        yield faults.invalid(place, kind, _trouble(str(error), rule.text))
        return
    if holds is True:
        return
    if text := rule.raw.get("fieldPath"):
        place = f"{path}{text}" if path else text.removeprefix(".")
    yield _refusal(rule.raw.get("reason") or "FieldValueInvalid", place, kind, _message(rule, bindings))


def _trouble(error: str, rule: str) -> str:
    if error == "no such overload":
        why = "call arguments did not match a supported operator, function or macro signature for rule"
        return f"'{error}': {why}: {rule}"
    if error == TOO_DEAR:
        return f"'{error}': call cost exceeds limit for rule: {rule}"
    return f"{error} evaluating rule: {rule}"


def _message(rule: Rule, bindings: Mapping[str, Any]) -> str:
    if rule.message is not None:
        try:
            text = rule.message.eval(bindings)
        except EvaluationError:
            text = None
        if isinstance(text, str) and text.strip() and "\n" not in text and len(text) <= MESSAGE_BYTES_MAX:
            return text.strip()
    return str(rule.raw.get("message") or "").strip() or f"failed rule: {rule.text}"


def _refusal(reason: str, path: str, kind: str, message: str) -> Cause:
    match reason:
        case "FieldValueRequired":
            return faults.required(path, message)
        case "FieldValueForbidden":
            return faults.forbidden(path, message)
        case "FieldValueDuplicate":
            return faults.duplicate(path, kind)
    return faults.invalid(path, kind, message)


def bound(value: Any, node: Structural | None) -> Any:
    """A value as CEL sees it: names escaped, times and bytes as such, numbers of the schema's type."""
    if node is None:
        return value
    if isinstance(value, dict):
        made = {}
        for name, item in value.items():
            if node.is_resource and name == "metadata" and isinstance(item, dict):
                made[name] = {key: item[key] for key in ("name", "generateName") if key in item}
            elif name in node.properties:
                made[estimate.escaped(name)] = bound(item, node.properties[name])
            else:
                made[name] = bound(item, node.additional)
        return made
    if isinstance(value, list):
        return [bound(item, node.items) for item in value]
    if node.type == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and node.type == "string":
        return _text(value, node.raw.get("format") or "")
    return value


def _text(value: str, form: str) -> Any:
    try:
        match form:
            case "date":
                return engine.timestamp(datetime.fromisoformat(f"{value}T00:00:00+00:00"))
            case "date-time":
                return engine.timestamp(datetime.fromisoformat(value))
            case "duration":
                return engine.duration(duration_s(value))
            case "byte":
                return base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        return value
    return value


# -- when a definition is written --------------------------------------------------------------------------------------


def rule_faults(node: Structural, path: str) -> list[Cause]:
    """What is wrong with the rules of a schema; `path` is the definition's."""
    found: list[Cause] = []
    total = list(_check(node, path, 1.0, "", found))
    if sum(total) > estimate.DEFINITION_COST_MAX:
        what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        found.append(faults.forbidden(path, _budget(what, sum(total), estimate.DEFINITION_COST_MAX)))
    return found


def _check(node: Structural, path: str, times: float, uncorrelated: str, found: list[Cause]) -> Iterator[float]:
    """Adds to `found`; yields the cost of each rule. `times`: how often a value may stand here."""
    for index, raw in enumerate(node.raw.get("x-kubernetes-validations") or ()):
        place = f"{path}.x-kubernetes-validations[{index}]"
        found += _shape(raw, place)
        yield from _check_rule(raw, node, place, times, uncorrelated, found)
    for name, inner in node.properties.items():
        yield from _check(inner, f"{path}.properties[{name}]", times, uncorrelated, found)
    if node.additional is not None:
        count = min(times * estimate.largest(node), estimate.REQUEST_BYTES_MAX)
        yield from _check(node.additional, f"{path}.additionalProperties", count, uncorrelated, found)
    if node.items is not None:
        count = min(times * estimate.largest(node), estimate.REQUEST_BYTES_MAX)
        lost = uncorrelated or (path if node.list_type != "map" else "")
        yield from _check(node.items, f"{path}.items", count, lost, found)


def _shape(raw: Mapping[str, Any], place: str) -> list[Cause]:
    rule, message = str(raw.get("rule") or ""), str(raw.get("message") or "")
    found: list[Cause] = []
    if not rule.strip():
        found.append(faults.required(f"{place}.rule", "rule is not specified"))
    elif message and not message.strip():
        found.append(faults.invalid(f"{place}.message", message, "must be non-empty if specified"))
    elif "\n" in message.strip():
        found.append(faults.invalid(f"{place}.message", message, "must not contain line breaks"))
    elif "\n" in rule.strip() and not message.strip():
        found.append(faults.required(f"{place}.message", "message must be specified if rule contains line breaks"))
    if (text := raw.get("messageExpression")) and not text.strip():
        found.append(faults.required(f"{place}.messageExpression", "messageExpression must be non-empty if specified"))
    if (reason := raw.get("reason")) is not None and reason not in REASONS:
        found.append(faults.not_supported(f"{place}.reason", reason, REASONS))
    return found


def _check_rule(
    raw: Mapping[str, Any], node: Structural, place: str, times: float, uncorrelated: str, found: list[Cause]
) -> Iterator[float]:
    rule = str(raw.get("rule") or "")
    if not rule.strip():
        return
    program, error = _compile(rule)
    if program is None:
        found.append(faults.invalid(f"{place}.rule", dict(raw), error))
        return
    uses_old = "oldSelf" in program.names
    is_optional = bool(raw.get("optionalOldSelf"))
    known = {"self": node, "oldSelf": None if is_optional else node}
    seen = estimate.estimate(program.tree, known)
    if seen.fault is not None:
        text, at = seen.fault
        shown = f"ERROR: <input>:1:{at + 1}: {text}\n | {rule}\n | {'.' * at}^"
        found.append(faults.invalid(f"{place}.rule", dict(raw), f"compilation failed: {shown}"))
        return
    if program.result_type not in ("bool", "dyn"):
        detail = "cel expression must evaluate to a bool"
        found.append(faults.invalid(f"{place}.rule", dict(raw), detail))
        return
    cost = seen.cost * times
    if cost > estimate.COST_MAX:
        found.append(faults.forbidden(f"{place}.rule", _budget("estimated rule cost", cost, estimate.COST_MAX)))
    if uses_old and uncorrelated:
        detail = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelated}"
        found.append(faults.invalid(f"{place}.rule", rule, detail))
    elif is_optional and not uses_old:
        detail = "may not be set if oldSelf is not used in rule"
        found.append(faults.invalid(f"{place}.optionalOldSelf", True, detail))
    if expression := raw.get("messageExpression"):
        message, error = _compile(expression)
        if message is None:
            detail = f"messageExpression {error}"
            found.append(faults.invalid(f"{place}.messageExpression", dict(raw), detail))
        elif message.result_type not in ("string", "dyn"):
            detail = "messageExpression must evaluate to a string"
            found.append(faults.invalid(f"{place}.messageExpression", dict(raw), detail))
    yield cost


def _budget(what: str, cost: float, limit: float) -> str:
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    advice = (
        "try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings "
        "are declared"
    )
    return f"{what} exceeds budget by factor of {shown} ({advice})"
