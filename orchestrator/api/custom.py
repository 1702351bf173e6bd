"""A custom kind: what one version of a CustomResourceDefinition says, in the places where built-in kinds have files.

`resources_of` turns a definition into rows of the resource table; each row carries its CustomKind. From there on a
custom resource takes the same path as a built-in one: its Type serves server-side apply, `decode` is its decoding, and
`rules` its defaults, validation and printer columns. Source: apiextensions/v1; KEP-95, KEP-2885, KEP-4358.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

from msgspec import Struct, field

from orchestrator.api import decoding, meta, schema
from orchestrator.api.cel.rules import ABSENT, BLOCKING, NOT_CHECKED, RuleSet
from orchestrator.api.kinds import faults, formats, metadata, table
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import NAME, Cells, Column
from orchestrator.api.meta import Object
from orchestrator.api.resources import ALL_VERBS, Resource, Subresource
from orchestrator.api.schema import Type
from orchestrator.api.status import Cause
from orchestrator.api.structural import compiled, defaulting, jsonpath, pruning, values
from orchestrator.api.structural.compiled import OBJECT_META, Structural

REPLICAS_MAX = 2**31 - 1
_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


class ScalePaths(Struct, frozen=True):
    """Where `/scale` finds its numbers; paths start with a dot."""

    spec_replicas: str
    status_replicas: str
    selector: str = ""


class CustomKind(Struct, frozen=True, dict=True):
    """`version` is an entry of `spec.versions`; `kind` the name of the kind."""

    kind: str
    version: Mapping[str, Any]
    has_status: bool = False
    scale: ScalePaths | None = None
    selectable: tuple[str, ...] = ()
    deprecation: str = ""  # a warning with every answer
    conversion: Mapping[str, Any] = field(default_factory=dict)  # spec.conversion
    structure: Structural = field(default_factory=lambda: compiled.compiled({}, is_root=True))

    @cached_property
    def _rule_set(self) -> RuleSet:
        return RuleSet(self.structure)

    @cached_property
    def type(self) -> Type:
        return compiled.type_of(self.structure, self.kind)

    # -- decoding ------------------------------------------------------------------------------------------------------

    def decode(self, obj: Object) -> list[str]:
        """Prunes and completes the object in place; returns the unknown fields. Errors: DecodeError."""
        for name in ("apiVersion", "kind"):
            if name in obj and not isinstance(obj[name], str):
                raise decoding.DecodeError(f"{name}: Invalid value: {faults.shown(obj[name])}: must be a string")
        unknown = _decode_metadata(obj, "")
        unknown += _decode_embedded(obj, self.structure, "", is_root=True)
        return unknown + pruning.prune(obj, self.structure)

    # -- rules ---------------------------------------------------------------------------------------------------------

    def rules(self, resource: Resource) -> KindRules:
        return KindRules(
            resource=resource,
            has_generation=True,
            default=self._default,
            faults=partial(self._faults, resource.namespaced),
            update_faults=self._update_faults,
            status_faults=self._status_faults,
            warnings=_finalizer_warnings,
            columns=self._columns,
            cells=self._cells,
        )

    def _default(self, obj: Object) -> None:
        held = {name: obj.pop(name) for name in compiled.META_FIELDS if name in obj}
        defaulting.default(obj, self.structure)
        rest = dict(obj)
        obj.clear()
        obj.update(held | rest)

    def _faults(self, namespaced: bool, obj: Object) -> list[Cause]:
        found = values.faults(obj, self.structure) + self._scale_faults(obj, ("spec", "status"))
        found += values.embedded_faults(obj, self.structure)
        found += values.list_faults(obj, self.structure)
        named = metadata.create(obj, namespaced=namespaced, name_format=formats.dns_subdomain, own_finalizers=False)
        return found + self._rule_faults(obj, ABSENT, named + found)

    def _rule_faults(self, obj: Object, old: Any, found: list[Cause]) -> list[Cause]:
        """What the schema's own rules say, where the object is sound enough to be asked about."""
        if self._rule_set.is_empty:
            return []
        if any(cause.reason in BLOCKING for cause in found):
            return [faults.invalid("<nil>", None, NOT_CHECKED)]
        return self._rule_set.faults(obj, old)

    def _update_faults(self, new: Object, old: Object) -> list[Cause]:
        found = values.faults(new, self.structure, "", old) + self._scale_faults(new, ("spec", "status"))
        found += values.embedded_faults(new, self.structure)
        if not values.list_faults(old, self.structure):
            found += values.list_faults(new, self.structure)
        return found + self._rule_faults(new, old, metadata.update(new, old, own_finalizers=False) + found)

    def _status_faults(self, new: Object, old: Object) -> list[Cause]:
        found = []
        if "status" in new and (status := self.structure.properties.get("status")) is not None:
            found = values.faults(new["status"], status, "status", old.get("status", values.ABSENT))
            if "status" not in old or not values.list_faults(old["status"], status, "status"):
                found += values.list_faults(new["status"], status, "status")
        found = found + self._scale_faults(new, ("status",))
        return found + self._rule_faults(new, old, found)

    def _scale_faults(self, obj: Object, parts: tuple[str, ...]) -> list[Cause]:
        if self.scale is None:
            return []
        found = []
        for part, path in (("spec", self.scale.spec_replicas), ("status", self.scale.status_replicas)):
            number = next(iter(jsonpath.find(obj, path)), None)
            if part in parts and isinstance(number, float) and not number.is_integer():
                rule = f"{path} accessor error: {number} is of the type float64, expected int64"
                found.append(faults.invalid(path, 0, rule))
            if part in parts and isinstance(number, int) and not 0 <= number <= REPLICAS_MAX:
                rule = (
                    "should be a non-negative integer"
                    if number < 0
                    else f"should be less than or equal to {REPLICAS_MAX}"
                )
                found.append(faults.invalid(path, number, rule))
        return found

    # -- printer columns -----------------------------------------------------------------------------------------------

    @cached_property
    def _printed(self) -> list[Mapping[str, Any]]:
        return list(self.version.get("additionalPrinterColumns") or (_AGE,))

    @property
    def _columns(self) -> tuple[Column, ...]:
        if not self.version.get("additionalPrinterColumns"):
            return (NAME, Column("Age", "date"))
        return (
            NAME,
            *(
                Column(
                    column["name"],
                    column["type"],
                    column.get("priority") or 0,
                    column.get("format") or "",
                    column.get("description")
                    or f"Custom resource definition column (in JSONPath format): {column['jsonPath']}",
                )
                for column in self._printed
            ),
        )

    def _cells(self, obj: Object, now: float) -> Cells:
        return [meta.name(obj), *(_cell(obj, column, now) for column in self._printed)]


def _finalizer_warnings(obj: Object) -> list[str]:
    """Custom resources may be held by finalizers of any name; one that others may have too is warned of."""
    told = []
    for name in meta.finalizers(obj):
        about = f"metadata.finalizers: {faults.shown(name)}: "
        told += [about + why for why in formats.qualified_name(name)]
        if "/" not in name and name not in metadata.STANDARD_FINALIZERS:
            path = " including a path (/)" if "." in name else ""
            advice = f"prefer a domain-qualified finalizer name{path} to avoid accidental conflicts"
            told.append(f"{about}{advice} with other finalizer writers")
    return told


def _cell(obj: Object, column: Mapping[str, Any], now: float) -> Any:
    found = jsonpath.find(obj, column["jsonPath"])
    if not found or found[0] is None:
        return None
    value = found[0]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match column["type"]:
        case "string":
            return value if isinstance(value, str) else _printed_value(value)
        case "integer":
            return int(value) if is_number else None
        case "number":
            return float(value) if is_number else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "date":
            try:
                return table.since(value, now) if isinstance(value, str) else None
            except ValueError:
                return "<invalid>"
    return None


def _printed_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return faults.shown(value)
    return str(value)


# -- metadata ----------------------------------------------------------------------------------------------------------


def _decode_metadata(obj: Object, path: str) -> list[str]:
    if "metadata" not in obj:
        return []
    kind = schema.named_type(OBJECT_META)
    if obj["metadata"] is None:
        obj["metadata"] = {}
    holder: Object = {"metadata": obj["metadata"]}
    if not isinstance(holder["metadata"], dict):
        shown = {str: "string", bool: "bool", list: "array"}.get(type(holder["metadata"]), "number")
        raise decoding.DecodeError(f"json: cannot unmarshal {shown} into Go value of type v1.ObjectMeta")
    prefix = f"{path}.metadata" if path else "metadata"
    return [f"{prefix}.{name}" for name in decoding.decode(holder["metadata"], kind)]


def _decode_embedded(value: Any, node: Structural, path: str, *, is_root: bool = False) -> list[str]:
    found: list[str] = []
    if isinstance(value, dict):
        if node.is_resource and not is_root:
            found += _decode_metadata(value, path)
        for name, item in value.items():
            inner = node.properties.get(name) or node.additional
            if inner is not None:
                found += _decode_embedded(item, inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and node.items is not None:
        for index, item in enumerate(value):
            found += _decode_embedded(item, node.items, f"{path}[{index}]")
    return found


# -- definitions to rows -----------------------------------------------------------------------------------------------


def resources_of(definition: Object) -> list[Resource]:
    """A row for each served version of an accepted definition, the preferred version first. The storage version is
    among them, even where it is not served: then without verbs."""
    spec, accepted = definition["spec"], (definition.get("status") or {}).get("acceptedNames") or {}
    versions = sorted(spec.get("versions") or (), key=lambda version: _priority(version["name"]))
    storage = next(version["name"] for version in versions if version.get("storage"))
    rows = []
    for version in versions:
        is_storage = version["name"] == storage
        if version.get("served") or is_storage:
            stored_as = "" if is_storage else f"{spec['group']}/{storage}"
            warning = _deprecation(spec["group"], accepted["kind"], version, versions)
            rows.append(_row(spec, accepted, version, stored_as, warning, is_served=bool(version.get("served"))))
    return rows


def _deprecation(group: str, kind: str, version: Mapping[str, Any], versions: list[Any]) -> str:
    """`versions` are in order of priority; the first that is served and not deprecated is what to use instead."""
    if not version.get("deprecated"):
        return ""
    if text := version.get("deprecationWarning"):
        return str(text)
    better = next((one for one in versions if one.get("served") and not one.get("deprecated")), None)
    advice = ""
    if better is not None and _priority(better["name"]) < _priority(version["name"]):
        advice = f"; use {group}/{better['name']} {kind}"
    return f"{group}/{version['name']} {kind} is deprecated{advice}"


def _row(
    spec: Object,
    names: Mapping[str, Any],
    version: Mapping[str, Any],
    stored_as: str,
    warning: str,
    *,
    is_served: bool,
) -> Resource:
    asked = version.get("subresources") or {}
    subresources = []
    scale = None
    if (paths := asked.get("scale")) is not None:
        scale = ScalePaths(paths["specReplicasPath"], paths["statusReplicasPath"], paths.get("labelSelectorPath") or "")
        subresources.append(Subresource("scale", kind="Scale", group_version="autoscaling/v1"))
    if "status" in asked:
        subresources.append(Subresource("status"))
    text = (version.get("schema") or {}).get("openAPIV3Schema")
    custom = CustomKind(
        names["kind"],
        version,
        has_status="status" in asked,
        scale=scale,
        selectable=tuple(one["jsonPath"].lstrip(".") for one in version.get("selectableFields") or ()),
        deprecation=warning,
        conversion=spec.get("conversion") or {},
        structure=compiled.compiled(text, is_root=True),
    )
    return Resource(
        spec["group"],
        version["name"],
        names["plural"],
        names["kind"],
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        verbs=ALL_VERBS if is_served else (),
        subresources=tuple(subresources) if is_served else (),
        singular_name=names.get("singular") or "",
        storage_group_version=stored_as,
        list_kind_name=names.get("listKind") or "",
        custom=custom,
    )


def _priority(version: str) -> tuple[int, int, int, str]:
    """The order of versions: general availability first, then beta, then alpha, each the newest first."""
    found = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if found is None:
        return 3, 0, 0, version
    stage = {None: 0, "beta": 1, "alpha": 2}[found[2]]
    return stage, -int(found[1]), -int(found[3] or 0), version
