"""CustomResourceDefinition: defaults, validation, columns. What it defines is `orchestrator/api/custom.py`.

A fault in a schema, a subresource or a column is told at `spec.validation`, `spec.subresources` and so on where all
versions have the same one, and at `spec.versions[i]` where they differ, as upstream's internal form has them.
Source: apiextensions/v1; Tasks, "Extend the Kubernetes API with CustomResourceDefinitions".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from orchestrator.api import conditions, meta
from orchestrator.api.kinds import faults, formats
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.kinds.table import CREATED_AT, NAME, Cells
from orchestrator.api.kinds.webhook_clients import webhook_service, webhook_url
from orchestrator.api.meta import Object
from orchestrator.api.resources import CUSTOMRESOURCEDEFINITIONS
from orchestrator.api.status import Cause
from orchestrator.api.structural import formats as value_formats
from orchestrator.api.structural import schema_faults

Json = Mapping[str, Any]
APPROVED = "api-approved.kubernetes.io"
COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
SELECTABLE_MAX = 8
_POLICY = "https://github.com/kubernetes/enhancements/pull/1111"
_AT_ROOT = (
    "Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength",
    "MinLength", "Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items", "Properties",
    "ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations",
)  # fmt: skip
_AT_ROOT_NAMES = {name[0].lower() + name[1:] for name in _AT_ROOT} | {
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


def storage_version(obj: Json) -> str:
    return next((version["name"] for version in _spec(obj).get("versions") or () if version.get("storage")), "")


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if not names.get("singular") and names.get("kind"):
        names["singular"] = names["kind"].lower()
    if not names.get("listKind") and names.get("kind"):
        names["listKind"] = f"{names['kind']}List"
    conversion = spec.setdefault("conversion", {"strategy": "None"})
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is not None:
        service.setdefault("port", 443)


def on_create(obj: Object) -> None:
    obj["status"] = {
        "conditions": None,
        "acceptedNames": {"kind": "", "plural": ""},
        "storedVersions": [version] if (version := storage_version(obj)) else None,
    }


def on_update(new: Object, old: Object) -> None:
    version, status = storage_version(new), dict(old.get("status") or {})
    stored = list(status.get("storedVersions") or ())
    if version and version not in stored:
        status["storedVersions"] = [*stored, version]
    new["status"] = status


# -- faults ------------------------------------------------------------------------------------------------------------


def definition(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    wanted = f"{(spec.get('names') or {}).get('plural') or ''}.{spec.get('group') or ''}"
    causes: list[Cause] = []
    for field in ("name", "generateName"):
        if (given := meta.metadata(obj).get(field) or "") not in ("", wanted):
            causes.append(faults.invalid(f"metadata.{field}", given, 'must be spec.names.plural+"."+spec.group'))
    causes += _spec_faults(spec)
    causes += _stored_versions(obj)
    causes += _approval(obj, None)
    if spec.get("preserveUnknownFields"):
        causes.append(_preserves())
    return causes


def definition_update(new: Object, old: Object) -> list[Cause]:
    spec, before = _spec(new), _spec(old)
    causes = _spec_faults(spec)
    names, names_before = spec.get("names") or {}, before.get("names") or {}
    if conditions.is_true(old, "Established"):
        causes += faults.immutable("spec.scope", spec.get("scope"), before.get("scope"))
        causes += faults.immutable("spec.names.kind", names.get("kind"), names_before.get("kind"))
    causes += faults.immutable("spec.group", spec.get("group"), before.get("group"))
    causes += faults.immutable("spec.names.plural", names.get("plural"), names_before.get("plural"))
    causes += _stored_versions(new)
    causes += _approval(new, old)
    if spec.get("preserveUnknownFields") and not before.get("preserveUnknownFields"):
        causes.append(_preserves())
    return causes


def _preserves() -> Cause:
    rule = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
    return faults.invalid("spec.preserveUnknownFields", True, rule)


def _spec_faults(spec: Json) -> list[Cause]:
    causes: list[Cause] = []
    group = spec.get("group") or ""
    if not group:
        causes.append(faults.required("spec.group"))
    elif found := formats.dns_subdomain(group):
        causes.append(faults.invalid("spec.group", group, ",".join(found)))
    elif "." not in group:
        causes.append(faults.invalid("spec.group", group, "should be a domain with at least one dot"))
    scope = spec.get("scope") or ""
    if not scope:
        causes.append(faults.required("spec.scope"))
    elif scope not in ("Cluster", "Namespaced"):
        causes.append(faults.not_supported("spec.scope", scope, ("Cluster", "Namespaced")))
    versions = spec.get("versions") or []
    shared = _shared(versions)
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        if not (version.get("schema") or {}).get("openAPIV3Schema") and "schema" not in shared:
            causes.append(faults.required(f"{path}.schema.openAPIV3Schema"))
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        if found := formats.dns1035_label(version.get("name") or ""):
            causes.append(faults.invalid(f"{path}.name", version.get("name") or "", ",".join(found)))
        causes += _deprecation(version, path)
        causes += _version_parts(version, {part: f"{path}.{part}" for part in _PARTS if part not in shared}, versions)
    names = [version.get("name") for version in versions]
    if len(set(names)) < len(names):
        causes.append(faults.invalid("spec.versions", versions, "must contain unique version names"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        rule = "must have exactly one version marked as storage version"
        causes.append(faults.invalid("spec.versions", versions or None, rule))
    asked = spec.get("names") or {}
    for name in ("plural", "singular", "kind", "listKind"):
        if not asked.get(name):
            causes.append(faults.required(f"spec.names.{name}"))
    causes += names_faults(asked, "spec.names")
    if versions:
        top = {"schema": "spec.validation"}
        causes += _version_parts(versions[0], {part: top.get(part, f"spec.{part}") for part in shared}, versions)
    return causes + _conversion(spec.get("conversion") or {})


_PARTS = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")


def _shared(versions: list[Any]) -> tuple[str, ...]:
    """The parts that all versions have alike."""
    return tuple(
        part for part in _PARTS if versions and all(v.get(part) == versions[0].get(part) for v in versions[1:])
    )


def _version_parts(version: Json, places: Mapping[str, str], versions: list[Any]) -> list[Cause]:
    causes: list[Cause] = []
    raw = (version.get("schema") or {}).get("openAPIV3Schema")
    has_status = any("status" in (one.get("subresources") or {}) for one in versions)
    if "schema" in places and raw:
        path = f"{places['schema']}.openAPIV3Schema"
        if has_status:
            causes += _root_fields(raw, path)
        if raw.get("nullable"):
            causes.append(faults.forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
        causes += schema_faults.schema_faults(raw, path)
    if "subresources" in places:
        causes += _scale((version.get("subresources") or {}).get("scale"), f"{places['subresources']}.scale")
    if "additionalPrinterColumns" in places:
        for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
            causes += _column(column, f"{places['additionalPrinterColumns']}[{index}]")
    if "selectableFields" in places:
        causes += _selectable(version.get("selectableFields") or [], raw or {}, places["selectableFields"])
    return causes


def _root_fields(raw: Json, path: str) -> list[Cause]:
    if raw.get("type") != "object":
        rule = 'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
        return [faults.invalid(f"{path}.type", raw.get("type") or "", rule)]
    if any(raw[name] for name in raw if name not in _AT_ROOT_NAMES):
        shown = f"[{' '.join(_AT_ROOT)}]"
        rule = f"only {shown} fields are allowed at the root of the schema if the status subresource is enabled"
        return [faults.invalid(path, raw, rule)]
    return []


def _deprecation(version: Json, path: str) -> list[Cause]:
    text, found = version.get("deprecationWarning"), []
    if text is not None and not version.get("deprecated"):
        found = ["can only be set for deprecated versions"]
    elif text is not None:
        found = ["must be <= 256 characters long"] if len(text.encode()) > 256 else []
        found += ["must not be an empty string"] if not text else []
        if index := next((i + 1 for i, char in enumerate(text) if not char.isprintable()), 0):
            rule = "must only contain printable UTF-8 characters; non-printable character found at index"
            found.append(f"{rule} {index - 1}")
    return faults.each(f"{path}.deprecationWarning", text, found)


def _path(text: str, path: str) -> list[Cause]:
    if not text.startswith("."):
        return [faults.invalid(path, text, "must be a simple json path starting with .")]
    return []


def _scale(scale: Json | None, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if scale is None:
        return causes
    for name, below in (("specReplicasPath", ".spec"), ("statusReplicasPath", ".status")):
        text, place = scale.get(name) or "", f"{path}.{name}"
        if not text:
            causes.append(faults.required(place))
        elif found := _path(text, place):
            causes += found
        elif not text.startswith(f"{below}."):
            causes.append(faults.invalid(place, text, f"should be a json path under {below}"))
    if text := scale.get("labelSelectorPath") or "":
        place = f"{path}.labelSelectorPath"
        if found := _path(text, place):
            causes += found
        elif not text.startswith((".spec.", ".status.")):
            causes.append(faults.invalid(place, text, "should be a json path under either .spec or .status"))
    return causes


def _column(column: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    kind, form, text = column.get("type") or "", column.get("format") or "", column.get("jsonPath") or ""
    if not column.get("name"):
        causes.append(faults.required(f"{path}.name"))
    rule = f"must be one of {','.join(COLUMN_TYPES)}"
    if not kind:
        causes.append(faults.required(f"{path}.type", rule))
    elif kind not in COLUMN_TYPES:
        causes.append(faults.invalid(f"{path}.type", kind, rule))
    if form and form not in COLUMN_FORMATS:
        causes.append(faults.invalid(f"{path}.format", form, f"must be one of {','.join(COLUMN_FORMATS)}"))
    place = f"{path}.JSONPath"
    return causes + ([faults.required(place)] if not text else _path(text, place))


def _selectable(fields: list[Any], raw: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, one in enumerate(fields):
        text, place = one.get("jsonPath") or "", f"{path}[{index}].jsonPath"
        if not text:
            causes.append(faults.required(place))
            continue
        steps = text.removeprefix(".").split(".")
        at: Json | None = raw
        for step in steps:
            at = ((at or {}).get("properties") or {}).get(step)
        if not text.startswith(".") or (at is None and steps[0] != "metadata"):
            causes.append(faults.invalid(place, text, "is an invalid path: does not refer to a valid field"))
            continue
        if steps[0] == "metadata":
            causes.append(faults.invalid(place, text, "must not point to fields in metadata"))
        if (at or {}).get("type") not in ("string", "boolean", "integer"):
            rule = (
                "must point to a field of type string, boolean or integer. "
                "Enum string fields and strings with formats are allowed."
            )
            causes.append(faults.invalid(place, text, rule))
        if text in seen:
            causes.append(faults.duplicate(place, text))
        seen.add(text)
    if len(seen) > SELECTABLE_MAX:
        causes.append(faults.too_many(path, len(seen), SELECTABLE_MAX))
    return causes


def names_faults(names: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for name, is_kind in (("plural", False), ("singular", False), ("kind", True), ("listKind", True)):
        text = names.get(name) or ""
        found = formats.dns1035_label(text.lower() if is_kind else text) if text else []
        if found:
            prefix = "may have mixed case, but should otherwise match: " if is_kind else ""
            causes.append(faults.invalid(f"{path}.{name}", text, prefix + ",".join(found)))
    for index, text in enumerate(names.get("shortNames") or ()):
        if found := formats.dns1035_label(text):
            causes.append(faults.invalid(f"{path}.shortNames[{index}]", text, ",".join(found)))
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        rule = "kind and listKind may not be the same"
        causes.append(faults.invalid(f"{path}.listKind", names["listKind"], rule))
    for index, text in enumerate(names.get("categories") or ()):
        if found := formats.dns1035_label(text):
            causes.append(faults.invalid(f"{path}.categories[{index}]", text, ",".join(found)))
    return causes


def _conversion(conversion: Json) -> list[Cause]:
    path, causes = "spec.conversion", []
    strategy, webhook = conversion.get("strategy") or "", conversion.get("webhook")
    if not strategy:
        causes.append(faults.required(f"{path}.strategy"))
    elif strategy not in ("None", "Webhook"):
        causes.append(faults.not_supported(f"{path}.strategy", strategy, ("None", "Webhook")))
    client = (webhook or {}).get("clientConfig")
    versions = (webhook or {}).get("conversionReviewVersions") or []
    if strategy != "Webhook":
        rule = "should not be set when strategy is not set to Webhook"
        if client is not None:
            causes.append(faults.forbidden(f"{path}.webhookClientConfig", rule))
        if versions:
            causes.append(faults.forbidden(f"{path}.conversionReviewVersions", rule))
        return causes
    place = f"{path}.webhookClientConfig"
    if client is None:
        causes.append(faults.required(place, "required when strategy is set to Webhook"))
    elif (client.get("url") is None) == (client.get("service") is None):
        causes.append(faults.required(place, "exactly one of url or service is required"))
    elif client.get("url") is not None:
        causes += webhook_url(client["url"], f"{place}.url")
    else:
        causes += webhook_service(client["service"], f"{place}.service")
    place = f"{path}.conversionReviewVersions"
    if not versions:
        causes.append(faults.required(place))
    for index, version in enumerate(versions):
        if version in versions[:index]:
            causes.append(faults.invalid(f"{place}[{index}]", version, "duplicate version"))
        else:
            causes += faults.each(f"{place}[{index}]", version, formats.dns1035_label(version))
    if versions and not {"v1", "v1beta1"} & set(versions):
        causes.append(faults.invalid(place, versions, "must include at least one of v1, v1beta1"))
    return causes


def _stored_versions(obj: Object) -> list[Cause]:
    path, stored = "status.storedVersions", (obj.get("status") or {}).get("storedVersions") or []
    if not stored:
        return [faults.invalid(path, None, "must have at least one stored version")]
    names = [version.get("name") for version in _spec(obj).get("versions") or ()]
    causes = []
    if (storage := storage_version(obj)) and storage not in stored:
        causes.append(faults.invalid(path, stored, f"must have the storage version {storage}"))
    for index, name in enumerate(stored):
        if name not in names:
            rule = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {name} and removes "
                f"{name} from status.storedVersions"
            )
            causes.append(faults.invalid(f"{path}[{index}]", name, rule))
    return causes


def is_protected(group: str) -> bool:
    return any(group == owner or group.endswith(f".{owner}") for owner in ("k8s.io", "kubernetes.io"))


def approval(obj: Json) -> tuple[str, str]:
    """(Missing, Bypassed, Approved or Invalid; why) of a definition in a group of the Kubernetes community."""
    text = meta.annotations(obj).get(APPROVED) or ""
    parts = urlsplit(text)
    if not text:
        return "Missing", f'protected groups must have approval annotation "{APPROVED}", see {_POLICY}'
    if text.startswith("unapproved"):
        return "Bypassed", f"not approved: {faults.shown(text)}"
    if parts.scheme and parts.netloc:
        return "Approved", f"approved in {text}"
    rule = 'with either a URL or a reason starting with "unapproved"'
    return "Invalid", f'protected groups must have approval annotation "{APPROVED}" {rule}, see {_POLICY}'


def _approval(new: Object, old: Object | None) -> list[Cause]:
    if not is_protected(_spec(new).get("group") or ""):
        return []
    state, why = approval(new)
    if old is not None and approval(old)[0] == state:
        return []
    path = f"metadata.annotations[{APPROVED}]"
    if state == "Missing":
        return [faults.required(path, why)]
    return [faults.invalid(path, meta.annotations(new)[APPROVED], why)] if state == "Invalid" else []


def definition_status(new: Object, old: Object) -> list[Cause]:
    return names_faults((new.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames")


# -- warnings and columns ----------------------------------------------------------------------------------------------


def warnings(obj: Object) -> list[str]:
    found: list[str] = []
    sets: set[str] = set()
    for version in _spec(obj).get("versions") or ():
        for node in _nodes((version.get("schema") or {}).get("openAPIV3Schema") or {}):
            form = node.get("format")
            if form and not value_formats.is_known(form):
                found.append(f'unrecognized format "{form}"')
            kind = (node.get("items") or {}).get("type") if isinstance(node.get("items"), dict) else None
            if node.get("x-kubernetes-list-type") == "set" and kind in ("object", "array"):
                rule = "is not supported by server-side apply or CEL validation rules"
                sets.add(f'x-kubernetes-list-type: set for items of type "{kind}" {rule}')
    return found + sorted(sets)


def _nodes(raw: Json) -> list[Json]:
    found = [raw]
    for inner in (*(raw.get("properties") or {}).values(), raw.get("items"), raw.get("additionalProperties")):
        if isinstance(inner, dict):
            found += _nodes(inner)
    return found


def _cells(obj: Object, now: float) -> Cells:
    return [meta.name(obj), meta.metadata(obj).get("creationTimestamp")]


RULES = (
    KindRules(
        resource=CUSTOMRESOURCEDEFINITIONS,
        has_generation=True,
        default=default,
        on_create=on_create,
        on_update=on_update,
        faults=definition,
        update_faults=definition_update,
        status_faults=definition_status,
        warnings=warnings,
        columns=(NAME, CREATED_AT),
        cells=_cells,
    ),
)
