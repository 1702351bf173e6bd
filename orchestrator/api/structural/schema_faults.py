"""What is wrong with a schema itself: not structural, not complete, or with fields that are not supported.

Paths are those of the definition: `spec.validation.openAPIV3Schema.properties[spec].type`.
Source: Concepts, "CustomResourceDefinition", specifying a structural schema; KEP-95.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.api.cel import rules
from orchestrator.api.kinds import faults
from orchestrator.api.meta import copied
from orchestrator.api.status import Cause
from orchestrator.api.structural import compiled, pruning, values

Json = Mapping[str, Any]
TYPES = ("array", "boolean", "integer", "number", "object", "string")
INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_UNSUPPORTED = {
    "id": "id is not supported", "additionalItems": "additionalItems is not supported",
    "patternProperties": "patternProperties is not supported", "definitions": "definitions is not supported",
    "dependencies": "dependencies is not supported", "$ref": "$ref is not supported",
}  # fmt: skip
_NESTED = {  # field → what it must be within allOf, anyOf, oneOf and not
    "type": "empty", "additionalProperties": "undefined", "default": "undefined", "title": "empty",
    "description": "empty", "nullable": "false", "x-kubernetes-preserve-unknown-fields": "false",
    "x-kubernetes-embedded-resource": "false", "x-kubernetes-int-or-string": "false",
    "x-kubernetes-list-map-keys": "empty", "x-kubernetes-list-type": "undefined",
    "x-kubernetes-map-type": "undefined", "x-kubernetes-validations": "empty",
}  # fmt: skip
_EMPTY_AT = {"root": "at the root", "items": "for specified array items", "field": "for specified object fields"}


def schema_faults(raw: Json, path: str) -> list[Cause]:
    """Everything that is wrong with an `openAPIV3Schema`."""
    found = sorted([*_invariants(raw, "root", path), *_completeness(raw, raw, path, path)], key=str)
    if not found:
        found = list(_default_faults(raw, path, is_root=True))
    found += _openapi(raw, path, is_root=True, forbid_default="")
    return found or rules.rule_faults(compiled.compiled(raw, is_root=True), path)


# -- structural --------------------------------------------------------------------------------------------------------


def _invariants(raw: Json, level: str, path: str) -> Iterator[Cause]:
    kind = raw.get("type") or ""
    items, additional = raw.get("items"), raw.get("additionalProperties")
    if kind == "array" and items is None:
        yield faults.required(f"{path}.items", "must be specified")
    if isinstance(items, dict):
        yield from _invariants(items, "items", f"{path}.items")
    for name, inner in (raw.get("properties") or {}).items():
        yield from _invariants(inner, "field", f"{path}.properties[{name}]")
    if additional not in (None, False):
        if level == "root":
            yield faults.forbidden(f"{path}.additionalProperties", "must not be used at the root")
        if isinstance(additional, dict):
            yield from _invariants(additional, "field", f"{path}.additionalProperties")
    is_int_or_string = bool(raw.get("x-kubernetes-int-or-string"))
    preserves = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
    embedded = bool(raw.get("x-kubernetes-embedded-resource"))
    if is_int_or_string and preserves:
        rule = "must be false if x-kubernetes-int-or-string is true"
        yield faults.invalid(f"{path}.x-kubernetes-preserve-unknown-fields", True, rule)
    if is_int_or_string and embedded:
        rule = "must be false if x-kubernetes-int-or-string is true"
        yield faults.invalid(f"{path}.x-kubernetes-embedded-resource", True, rule)
    all_of = raw.get("allOf") or []
    skip_all = bool(all_of) and all_of[0].get("anyOf") == INT_OR_STRING
    yield from _value_rules(raw, path, skip_any=raw.get("anyOf") == INT_OR_STRING, skip_first_all=skip_all)
    if embedded and kind != "object":
        rule = "must be object if x-kubernetes-embedded-resource is true"
        yield faults.invalid(f"{path}.type", kind, rule) if kind else faults.required(f"{path}.type", rule)
    elif not kind and not is_int_or_string and not preserves:
        yield faults.required(f"{path}.type", f"must not be empty {_EMPTY_AT[level]}")
    if embedded and additional is not None:
        rule = "must not be used if x-kubernetes-embedded-resource is set"
        yield faults.forbidden(f"{path}.additionalProperties", rule)
    if level == "root" and kind and kind != "object":
        yield faults.invalid(f"{path}.type", kind, "must be object at the root")
    yield from _resource_fields(raw, level, path, embedded)


def _resource_fields(raw: Json, level: str, path: str, embedded: bool) -> Iterator[Cause]:
    properties = raw.get("properties") or {}
    if level == "root" or embedded:
        for name in ("kind", "apiVersion"):
            if name in properties and properties[name].get("type") != "string":
                yield faults.invalid(
                    f"{path}.properties[{name}].type", properties[name].get("type") or "", "must be string"
                )
        metadata = properties.get("metadata")
        if metadata is not None and metadata.get("type") != "object":
            yield faults.invalid(f"{path}.properties[metadata].type", metadata.get("type") or "", "must be object")
    if level == "root" and (metadata := properties.get("metadata")) is not None:
        inner = set(metadata.get("properties") or {})
        others = {key for key in metadata if key not in ("type", "properties", "default") and metadata[key]}
        if others or not inner <= {"name", "generateName"}:
            rule = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            yield faults.forbidden(f"{path}.properties[metadata]", rule)
    if embedded and not raw.get("x-kubernetes-preserve-unknown-fields") and not properties:
        rule = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        yield faults.required(f"{path}.properties", rule)


def _value_rules(raw: Json, path: str, *, skip_any: bool = False, skip_first_all: bool = False) -> Iterator[Cause]:
    for index, inner in enumerate(() if skip_any else raw.get("anyOf") or ()):
        yield from _nested(inner, f"{path}.anyOf[{index}]")
    for index, inner in enumerate(raw.get("allOf") or ()):
        yield from _nested(inner, f"{path}.allOf[{index}]", skip_any=skip_first_all and index == 0)
    for index, inner in enumerate(raw.get("oneOf") or ()):
        yield from _nested(inner, f"{path}.oneOf[{index}]")
    if raw.get("not") is not None:
        yield from _nested(raw["not"], f"{path}.not")
    if text := raw.get("pattern"):
        try:
            values.pattern(text)
        except re.error as error:
            rule = f"must be a valid regular expression, but isn't: {error}"
            yield faults.invalid(f"{path}.pattern", text, rule)


def _nested(raw: Json, path: str, *, skip_any: bool = False) -> Iterator[Cause]:
    yield from _value_rules(raw, path, skip_any=skip_any)
    if isinstance(raw.get("items"), dict):
        yield from _nested(raw["items"], f"{path}.items")
    for name, inner in (raw.get("properties") or {}).items():
        yield from _nested(inner, f"{path}.properties[{name}]")
    for name, rule in _NESTED.items():
        if raw.get(name):
            yield faults.forbidden(f"{path}.{name}", f"must be {rule} to be structural")
    if "metadata" in (raw.get("properties") or {}):
        yield faults.forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _completeness(rules: Json, raw: Json | None, path: str, at: str) -> Iterator[Cause]:
    """Each value rule has a structural counterpart."""
    for name, inner in _branches(rules, at):
        yield from _counterpart(inner, raw, path, name)


def _branches(rules: Json, at: str) -> Iterator[tuple[str, Json]]:
    if rules.get("not") is not None:
        yield f"{at}.not", rules["not"]
    for name in ("allOf", "anyOf", "oneOf"):
        for index, inner in enumerate(rules.get(name) or ()):
            yield f"{at}.{name}[{index}]", inner


def _counterpart(rules: Json, raw: Json | None, path: str, at: str) -> Iterator[Cause]:
    if raw is None:
        yield faults.required(path, f"because it is defined in {at}")
        return
    yield from _completeness(rules, raw, path, at)
    if isinstance(rules.get("items"), dict):
        yield from _counterpart(rules["items"], raw.get("items"), f"{path}.items", f"{at}.items")
    for name, inner in (rules.get("properties") or {}).items():
        below = (raw.get("properties") or {}).get(name)
        yield from _counterpart(inner, below, f"{path}.properties[{name}]", f"{at}.properties[{name}]")


# -- defaults ----------------------------------------------------------------------------------------------------------


def _default_faults(raw: Json, path: str, *, is_root: bool = False) -> Iterator[Cause]:
    """Defaults are pruned, and valid."""
    if raw.get("default") is not None:
        node, default = compiled.compiled(raw, is_root=is_root), raw["default"]
        kept = copied(default) if isinstance(default, (dict, list)) else default
        pruning.prune(kept, node)
        if kept != default:
            yield faults.invalid(f"{path}.default", default, "must not have unknown fields")
        for cause in values.faults(default, node):  # which names the places within the default alone
            within = "" if cause.field == "<nil>" else f".{cause.field}"
            yield Cause(f"{path}.default{within}", cause.reason, cause.message)
        yield from values.embedded_faults(default, node, f"{path}.default", is_root=False)
    if isinstance(raw.get("items"), dict):
        yield from _default_faults(raw["items"], f"{path}.items")
    for name, inner in (raw.get("properties") or {}).items():
        yield from _default_faults(inner, f"{path}.properties[{name}]")


# -- OpenAPI -----------------------------------------------------------------------------------------------------------


def _openapi(raw: Json, path: str, *, is_root: bool, forbid_default: str) -> Iterator[Cause]:
    kind = raw.get("type") or ""
    if kind == "null":
        yield faults.forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    elif kind and kind not in TYPES:
        yield faults.not_supported(f"{path}.type", kind, TYPES)
    if raw.get("default") is not None and forbid_default:
        yield faults.forbidden(f"{path}.default", f"must not be set {forbid_default}")
    for name, rule in _UNSUPPORTED.items():
        if raw.get(name):
            yield faults.forbidden(f"{path}.{name}", rule)
    if isinstance(raw.get("items"), list):
        yield faults.forbidden(f"{path}.items", "items must be a schema object and not an array")
    if raw.get("uniqueItems"):
        rule = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield faults.forbidden(f"{path}.uniqueItems", rule)
    properties, additional = raw.get("properties") or {}, raw.get("additionalProperties")
    if additional not in (None, True) and properties:
        rule = "additionalProperties and properties are mutual exclusive"
        yield faults.forbidden(f"{path}.additionalProperties", rule)
    if isinstance(additional, dict):
        below = f"{path}.additionalProperties"
        yield from _openapi(additional, below, is_root=False, forbid_default=forbid_default)
    for name, inner in properties.items():
        reason = f"in top-level {name}" if is_root and name in compiled.META_FIELDS else forbid_default
        yield from _openapi(inner, f"{path}.properties[{name}]", is_root=False, forbid_default=reason)
    for at, inner in _branches(raw, path):
        yield from _openapi(inner, at, is_root=False, forbid_default=forbid_default)
    if isinstance(raw.get("items"), dict):
        yield from _openapi(raw["items"], f"{path}.items", is_root=False, forbid_default=forbid_default)
    if raw.get("x-kubernetes-preserve-unknown-fields") is False:
        rule = "must be true or undefined"
        yield faults.invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, rule)
    yield from _merging(raw, kind, path)
    yield from _list_keys(raw, path)


def _merging(raw: Json, kind: str, path: str) -> Iterator[Cause]:
    for name, wanted, allowed in (
        ("x-kubernetes-map-type", "object", ("atomic", "granular")),
        ("x-kubernetes-list-type", "array", ("atomic", "set", "map")),
    ):
        value = raw.get(name)
        if value is None:
            continue
        if kind != wanted:
            rule = f"must be {wanted} if {name} is specified"
            yield faults.invalid(f"{path}.type", kind, rule) if kind else faults.required(f"{path}.type", rule)
        if value not in allowed:
            yield faults.not_supported(f"{path}.{name}", value, allowed)
    items = raw.get("items") if isinstance(raw.get("items"), dict) else {}
    if raw.get("x-kubernetes-list-type") == "set" and kind == "array" and items:
        rule = "must be atomic as item of a list with x-kubernetes-list-type=set"
        if items.get("type") == "array" and items.get("x-kubernetes-list-type") not in (None, "atomic"):
            yield faults.invalid(f"{path}.items.x-kubernetes-list-type", items.get("x-kubernetes-list-type"), rule)
        if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
            yield faults.invalid(f"{path}.items.x-kubernetes-map-type", items.get("x-kubernetes-list-type"), rule)


def _list_keys(raw: Json, path: str) -> Iterator[Cause]:
    keys, kind = raw.get("x-kubernetes-list-map-keys") or [], raw.get("x-kubernetes-list-type")
    place = f"{path}.x-kubernetes-list-type"
    if keys and kind != "map":
        rule = "must be map if x-kubernetes-list-map-keys is non-empty"
        yield faults.required(place, rule) if kind is None else faults.invalid(place, kind, rule)
    items = raw.get("items")
    if kind == "map":
        place = f"{path}.x-kubernetes-list-map-keys"
        if not keys:
            yield faults.required(place, "must not be empty if x-kubernetes-list-type is map")
        if items is None:
            yield faults.required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map")
        elif items.get("type") != "object":
            rule = "must be object if parent array's x-kubernetes-list-type is map"
            yield faults.invalid(f"{path}.items.type", items.get("type") or "", rule)
        else:
            for index, key in enumerate(keys):
                inner = (items.get("properties") or {}).get(key)
                if inner is None:
                    yield faults.invalid(place, keys, "entries must all be names of item properties")
                elif inner.get("type") in ("array", "object"):
                    rule = "must be a scalar type if parent array's x-kubernetes-list-type is map"
                    yield faults.invalid(f"{path}.items.properties[{key}].type", items["type"], rule)
                if key in keys[:index]:
                    yield faults.invalid(place, keys, "must not contain duplicate entries")
    if kind in ("set", "map") and isinstance(items, dict):
        yield from _item_rules(items, keys if kind == "map" else [], kind, path)


def _item_rules(items: Json, keys: list[str], kind: str, path: str) -> Iterator[Cause]:
    if items.get("nullable"):
        rule = f"cannot be nullable when x-kubernetes-list-type is {kind}"
        yield faults.forbidden(f"{path}.items.nullable", rule)
    for key in keys:
        inner = (items.get("properties") or {}).get(key)
        if inner is None:
            continue
        why = "this property is in x-kubernetes-list-map-keys, so it"
        if key not in (items.get("required") or ()) and inner.get("default") is None:
            rule = f"{why} must have a default or be a required property"
            yield faults.required(f"{path}.items.properties[{key}].default", rule)
        if inner.get("nullable"):
            yield faults.forbidden(f"{path}.items.properties[{key}].nullable", f"{why} cannot be nullable")
