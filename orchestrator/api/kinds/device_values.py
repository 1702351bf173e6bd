"""Values that the kinds of dynamic resource allocation share: names, taints, selectors, opaque configuration.

Source: resource.k8s.io/v1 API reference; KEP-4381; upstream pkg/apis/resource/validation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from orchestrator.api.cel import syntax
from orchestrator.api.cel.engine import CompileError, Program, compile_expression
from orchestrator.api.cel.estimate import estimate
from orchestrator.api.kinds import faults, formats
from orchestrator.api.kinds.values import one_of
from orchestrator.api.kinds.volume_faults import csi_driver
from orchestrator.api.status import Cause
from orchestrator.api.structural.compiled import Structural

Json = Mapping[str, Any]
Check = Callable[[Any, str], list[Cause]]

SELECTORS_MAX, CONFIGS_MAX, REQUESTS_MAX = 32, 32, 32
POOL_NAME_MAX, IDENTIFIER_MAX, DOMAIN_MAX = 253, 32, 63  # bytes
EXPRESSION_BYTES_MAX = PARAMETERS_BYTES_MAX = 10 * 1024
EXPRESSION_COST_MAX = 1_000_000
BINDING_CONDITIONS_MAX = 4
TAINT_EFFECTS = ("NoExecute", "NoSchedule", "None")
TOLERATION_OPERATORS = ("Equal", "Exists")
# What a selector may name: `device` alone is of no use, but has to be known for its unknown fields to be found.
DEVICE = {
    "device": "dyn", "device.driver": "string", "device.attributes": "maps", "device.capacity": "maps",
    "device.allowMultipleAllocations": "bool",
}  # fmt: skip
# How large they may be, which is what an expression about them costs at worst.
_VALUE = Structural({"type": "string", "maxLength": 64})
_VALUES = Structural({"type": "object", "maxProperties": 32}, additional=_VALUE)
_DOMAINS = Structural({"type": "object", "maxProperties": 32}, additional=_VALUES)
_SIZES = {
    "device.driver": Structural({"type": "string", "maxLength": 63}), "device.attributes": _DOMAINS,
    "device.capacity": _DOMAINS, "device.allowMultipleAllocations": Structural({"type": "boolean"}),
}  # fmt: skip
_UID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_UID_LENGTHS = (36, 45, 38, 32)  # plain, with urn:uuid:, in braces, without dashes


# -- lists and maps ----------------------------------------------------------------------------------------------------


def each_of(
    items: Sequence[Any], path: str, check: Check, count_max: int = -1, key: Callable[[Any], Hashable] | None = None
) -> list[Cause]:
    """A list that is too long is not looked at; `key`, where given, must differ from item to item."""
    if 0 <= count_max < len(items):
        return [faults.too_many(path, len(items), count_max)]
    causes = [cause for index, item in enumerate(items) for cause in check(item, f"{path}[{index}]")]
    if key is None:
        return causes
    seen: set[Hashable] = set()
    for index, item in enumerate(items):
        if (name := key(item)) in seen:
            causes.append(faults.duplicate(f"{path}[{index}]", name))
        seen.add(name)
    return causes


def each_in(found: Json, path: str, check_key: Check, check: Check, key_max: int, count_max: int = -1) -> list[Cause]:
    """A map; a wrong key is a fault of the map itself, and a long one is shown without its middle."""
    if 0 <= count_max < len(found):
        return [faults.too_many(path, len(found), count_max)]
    causes: list[Cause] = []
    for key, item in sorted(found.items()):
        causes += check_key(key, path) + check(item, f"{path}[{_shortened(key, key_max)}]")
    return causes


def _shortened(text: str, length: int) -> str:
    left = length - 3
    return text if len(text) <= length else f"{text[: (left + 1) // 2]}...{text[len(text) - left // 2 :]}"


# -- names -------------------------------------------------------------------------------------------------------------


def label(name: str, path: str) -> list[Cause]:
    """Of a device, a request, a counter: it may not be empty, and the format says so."""
    return faults.each(path, name, formats.dns_label(name))


def label_key(name: str, path: str) -> list[Cause]:
    return faults.each(path, name, formats.qualified_name(name))


def pool_name(name: str, path: str) -> list[Cause]:
    if not name:
        return [faults.required(path)]
    causes = [faults.too_long(path, POOL_NAME_MAX)] if len(name) > POOL_NAME_MAX else []
    return causes + [
        cause for part in name.split("/") for cause in faults.each(path, part, formats.dns_subdomain(part))
    ]


def attribute_name(name: str, path: str) -> list[Cause]:
    """`name` or `domain/name`. Names with more slashes pass upstream, and so here."""
    domain, slash, identifier = name.partition("/")
    if not slash:
        return _identifier(name, path)
    if "/" in identifier:
        return []
    causes = csi_driver(domain, path) if domain else [faults.invalid(path, "", "the domain must not be empty")]
    if not identifier:
        return [*causes, faults.invalid(path, "", "the name must not be empty")]
    return causes + _identifier(identifier, path)


def full_attribute_name(name: str, path: str) -> list[Cause]:
    causes = attribute_name(name, path)
    if "/" not in name:
        detail = "a fully qualified name must be a domain and a name separated by a slash"
        causes.append(faults.invalid(path, name, detail))
    return causes


def _identifier(name: str, path: str) -> list[Cause]:
    causes = [faults.too_long(path, IDENTIFIER_MAX)] if len(name) > IDENTIFIER_MAX else []
    return causes + faults.each(path, name, formats.c_identifier(name))


def uid(text: str, path: str) -> list[Cause]:
    """Of a share: other spellings of a UUID are no better than none, but are told apart in the message."""
    if len(text) not in _UID_LENGTHS:
        complaint = f"invalid UUID length: {len(text)}"
    elif len(text) == 45 and text[:9].lower() != "urn:uuid:":
        complaint = f"invalid urn prefix: {faults.shown(text[:9])}"
    elif len(text) == 38 and (text[0] != "{" or text[-1] != "}"):
        complaint = "invalid bracketed UUID format"
    elif not _UID.fullmatch({45: text[9:], 38: text[1:-1]}.get(len(text), text)):
        complaint = "invalid UUID format"
    elif len(text) != 36 or text != text.lower():
        detail = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters"  # noqa: E501
        return [faults.invalid(path, text, detail)]
    else:
        return []
    return [faults.invalid(path, text, f"error validating uid: {complaint}")]


# -- taints and bindings -----------------------------------------------------------------------------------------------


def taint(found: Json, path: str) -> list[Cause]:
    value = found.get("value") or ""
    return [
        *label_key(found.get("key") or "", f"{path}.key"),
        *faults.each(f"{path}.value", value, formats.label_value(value)),
        *one_of(found.get("effect"), f"{path}.effect", TAINT_EFFECTS),
    ]


def toleration(found: Json, path: str) -> list[Cause]:
    key, value, operator = found.get("key") or "", found.get("value") or "", found.get("operator") or ""
    causes = label_key(key, f"{path}.key") if key else []
    if operator == "Exists":
        if value:
            causes.append(faults.invalid(f"{path}.value", value, "must be empty for operator `Exists`"))
    elif operator == "Equal":
        causes += faults.each(f"{path}.value", value, formats.label_value(value))
    else:
        causes += one_of(operator, f"{path}.operator", TOLERATION_OPERATORS)
    return causes + one_of(found.get("effect"), f"{path}.effect", TAINT_EFFECTS, required=False)


def bindings(holder: Json, path: str) -> list[Cause]:
    """Conditions to wait for before a pod is bound, and those that end the wait: both or none of them."""
    wanted, failing = holder.get("bindingConditions"), holder.get("bindingFailureConditions")
    here, there = f"{path}.bindingConditions", f"{path}.bindingFailureConditions"
    causes = each_of(wanted or (), here, label_key, BINDING_CONDITIONS_MAX)
    causes += each_of(failing or (), there, label_key, BINDING_CONDITIONS_MAX)
    causes += each_of(wanted or (), here, lambda item, at: [], key=str)
    seen: set[str] = set()
    for index, name in enumerate(failing or ()):
        if name in seen:
            causes.append(faults.duplicate(f"{there}[{index}]", name))
        if name in (wanted or ()):
            detail = "bindingFailureConditions must not overlap with bindingConditions"
            causes.append(faults.invalid(f"{there}[{index}]", name, detail))
        seen.add(name)
    if failing and not wanted:
        detail = "bindingConditions are required to use bindingFailureConditions"
        causes.append(faults.invalid(here, wanted, detail))
    if wanted and not failing:
        detail = "bindingFailureConditions are required to use bindingConditions"
        causes.append(faults.invalid(there, failing, detail))
    return causes


# -- selectors ---------------------------------------------------------------------------------------------------------


def selectors(found: Sequence[Json], path: str) -> list[Cause]:
    return each_of(found, path, _selector, SELECTORS_MAX)


def _selector(found: Json, path: str) -> list[Cause]:
    if found.get("cel") is None:
        return [faults.required(f"{path}.cel")]
    expression, at = found["cel"].get("expression") or "", f"{path}.cel.expression"
    if len(expression.encode()) > EXPRESSION_BYTES_MAX:
        return [faults.too_long(at, EXPRESSION_BYTES_MAX)]
    try:
        program = compile_expression(expression, DEVICE)
    except CompileError as error:
        return [faults.invalid(at, expression, str(error))]
    if complaint := _complaint(program):
        return [faults.invalid(at, expression, complaint)]
    if estimate(program.tree, _SIZES).cost > EXPRESSION_COST_MAX:
        return [faults.forbidden(at, "too complex, exceeds cost limit")]
    return []


def _complaint(program: Program) -> str:
    """What is wrong with an expression that compiles: it asks for what a device has not, or its answer is no bool."""
    for node in syntax.walk(program.tree):
        if node.kind == syntax.SELECT and _is_device(node.parts[0]) and f"device.{node.name}" not in DEVICE:
            place, mark = syntax.place(program.expression, node.at)
            return f"compilation failed: {place}: undefined field '{node.name}'{mark}"
    found = "kubernetes.DRADevice" if _is_device(program.tree) else program.type_text
    if found in ("bool", "dyn"):
        return ""
    return f"must evaluate to bool or the unknown type, not {found.replace('dyn', 'any')}"


def _is_device(node: syntax.Node) -> bool:
    return node.kind == syntax.IDENT and node.name == "device"


# -- configuration -----------------------------------------------------------------------------------------------------


def configuration(found: Json, path: str, *, is_stored: bool = False) -> list[Cause]:
    """Parameters for a driver, which alone understands them. What is stored already may be of any size."""
    opaque, at = found.get("opaque"), f"{path}.opaque"
    if opaque is None:
        return [faults.required(at)]
    causes = csi_driver(opaque.get("driver") or "", f"{at}.driver")
    bytes_max = -1 if is_stored else PARAMETERS_BYTES_MAX
    return causes + raw_object(opaque.get("parameters"), f"{at}.parameters", bytes_max)


def raw_object(value: Any, path: str, bytes_max: int) -> list[Cause]:
    if value is None:
        return [faults.required(path)]
    if 0 <= bytes_max < len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()):
        return [faults.too_long(path, bytes_max)]
    if not isinstance(value, Mapping):
        return [faults.invalid(path, "<value omitted>", "must be a valid JSON object")]
    return []
