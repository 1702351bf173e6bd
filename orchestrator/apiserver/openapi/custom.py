"""The published schema of a custom kind: what its definition says, with the fields that every object has.

Version 3 of the format can say all that a definition can. Version 2 cannot, and its readers refuse what they should let
through: it gets no choices (allOf, anyOf, oneOf, not), no defaults, no type for what may be null, and nothing about the
fields of what keeps unknown ones. Source: Kubernetes docs, "Publish Validation Schema in OpenAPI"; KEP-692.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestrator.api import schema
from orchestrator.api.resources import Resource

Json = Mapping[str, Any]
Schema = dict[str, Any]
Place = Callable[[str], str]  # the name of a definition → a reference to it

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_OF_ALL = "io.k8s.api.core.v1.ConfigMap"  # a kind whose fields that all kinds have are described
_GVK = "x-kubernetes-group-version-kind"
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED = "x-kubernetes-embedded-resource"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_CHOICES = ("allOf", "anyOf", "oneOf", "not")
_INT_OR_STRING_CHOICE = ({"type": "integer"}, {"type": "string"})


def definition_name(group: str, version: str, kind: str) -> str:
    """The group reversed: `com.example.stable.v1.CronTab`."""
    return ".".join([*reversed(group.split(".")), version, kind])


def definitions(row: Resource, version: int, place: Place) -> Iterator[tuple[str, Schema]]:
    """Those of the kind and of its list, as (name, schema)."""
    assert row.custom is not None
    name = definition_name(row.group, row.version, row.kind)
    made = _of_kind(row.custom.structure.raw, version, place)
    selectable = [{"fieldPath": path} for path in row.custom.selectable]
    marks: Schema = {"x-kubernetes-selectable-fields": selectable} if selectable else {}
    yield name, {**made, _GVK: [_gvk(row, row.kind)], **marks}
    listed = {
        "type": "object",
        "description": f"{row.list_kind} is a list of {row.kind}",
        "required": ["items"],
        "properties": {
            **_type_fields(),
            "items": {"type": "array", "description": f"List of {row.plural}.", "items": {"$ref": place(name)}},
            "metadata": _reference(f"{_META}ListMeta", version, place, _described(f"{_OF_ALL}List", "metadata")),
        },
    }
    yield definition_name(row.group, row.version, row.list_kind), {**listed, _GVK: [_gvk(row, row.list_kind)], **marks}


def _gvk(row: Resource, kind: str) -> dict[str, str]:
    return {"group": row.group, "version": row.version, "kind": kind}


def _of_kind(raw: Json, version: int, place: Place) -> Schema:
    # A reader of version 2 that knows one field takes all others for unknown.
    if not raw or (version == 2 and raw.get(_PRESERVE)):
        return {"type": "object"}
    made = _converted(raw, version, place)
    made["properties"] = {**made.get("properties", {}), **_object_fields(version, place)}
    return made


def _converted(raw: Json, version: int, place: Place) -> Schema:
    """One node and all below it."""
    made = _downgraded(raw) if version == 2 else _unfolded(raw)
    if "properties" in made:
        made["properties"] = {
            name: _converted(inner, version, place) for name, inner in (made["properties"] or {}).items()
        }
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = _converted(made[key], version, place)
    if raw.get(_EMBEDDED) and not (version == 2 and raw.get(_PRESERVE)):
        made["properties"] = {**made.get("properties", {}), **_object_fields(version, place)}
        required = list(made.get("required") or ())
        made["required"] = [*required, *(name for name in ("kind", "apiVersion") if name not in required)]
    return made


def _unfolded(raw: Json) -> Schema:
    """With the choice that int-or-string stands for."""
    made = dict(raw)
    if not raw.get(_INT_OR_STRING) or _has_choice(raw):
        return made
    choice = [dict(kind) for kind in _INT_OR_STRING_CHOICE]
    if "anyOf" in raw:
        made["allOf"] = [{"anyOf": choice}, *(raw.get("allOf") or ())]
    else:
        made["anyOf"] = choice
    return made


def _has_choice(raw: Json) -> bool:
    """Whether an int-or-string says already that it is either."""
    choice = list(_INT_OR_STRING_CHOICE)
    first = (raw.get("allOf") or [{}])[0]
    return raw.get("anyOf") == choice or first.get("anyOf") == choice


def _downgraded(raw: Json) -> Schema:
    made = {key: value for key, value in raw.items() if key not in (*_CHOICES, "nullable", "default")}
    preserves = bool(raw.get(_PRESERVE))
    if raw.get("nullable"):
        made.pop("type", None)
    if raw.get("nullable") or preserves:
        made.pop("items", None)
        made.pop("properties", None)
    if (made.get("type") == "array" and "items" not in made) or (preserves and made.get("type") == "object"):
        made.pop("type", None)
    nullable = {name for name, inner in (made.get("properties") or {}).items() if inner.get("nullable")}
    required = [name for name in made.get("required") or () if name not in nullable]
    additional = made.get("additionalProperties")
    if not required or (isinstance(additional, dict) and additional.get("nullable")):
        made.pop("required", None)
    else:
        made["required"] = required
    return made


# -- the fields of every object ----------------------------------------------------------------------------------------


def _object_fields(version: int, place: Place) -> Schema:
    metadata = _reference(f"{_META}ObjectMeta", version, place, _described(_OF_ALL, "metadata"))
    return {**_type_fields(), "metadata": metadata}


def _type_fields() -> Schema:
    return {name: {"type": "string", "description": _described(_OF_ALL, name)} for name in ("apiVersion", "kind")}


def _described(definition: str, name: str) -> str:
    found: str = schema.definitions().read(definition)["properties"][name]["description"]
    return found


def _reference(name: str, version: int, place: Place, description: str) -> Schema:
    """Nothing may stand beside a reference in version 3."""
    reference = {"$ref": place(name)}
    return {"description": description, **({"allOf": [reference]} if version == 3 else reference)}
