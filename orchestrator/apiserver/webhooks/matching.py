"""Which webhooks a request concerns: rules, selectors, the exempt kinds.

Pure functions of a webhook's configuration and the request. Source: admissionregistration/v1, "Matching requests".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from orchestrator.api import meta, selectors
from orchestrator.api.resources import NAMESPACES, Resource, ResourceTable
from orchestrator.api.status import ApiError, not_found
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes

Json = Mapping[str, Any]
GROUP = "admissionregistration.k8s.io"


class Asked(Struct, frozen=True):
    """A resource as a rule names it."""

    group: str
    version: str
    resource: str


def is_exempt(attributes: Attributes) -> bool:
    """Nobody may lock himself out of the configuration of admission."""
    return attributes.group == GROUP


def matches_rule(rule: Json, asked: Asked, attributes: Attributes) -> bool:
    def has(name: str, value: str) -> bool:
        return any(item in ("*", value) for item in rule.get(name) or ())

    is_namespaced = asked.resource != "namespaces" and bool(attributes.namespace)
    scope = rule.get("scope") or "*"
    if scope != "*" and is_namespaced is not (scope == "Namespaced"):
        return False
    if not (has("operations", attributes.operation) and has("apiGroups", asked.group)):
        return False
    if not has("apiVersions", asked.version):
        return False
    for text in rule.get("resources") or ():
        name, _, sub = text.partition("/")
        if name in ("*", asked.resource) and sub in ("*", attributes.subresource):
            return True
    return False


def matched(hook: Json, attributes: Attributes, others: Iterable[Resource]) -> Asked | None:
    """The resource that a rule of the webhook names: the requested one, or an equal one in another version."""
    own = Asked(attributes.group, attributes.version, attributes.resource)
    rules = hook.get("rules") or ()
    if any(matches_rule(rule, own, attributes) for rule in rules):
        return own
    if hook.get("matchPolicy", "Equivalent") == "Exact":
        return None
    for rule in rules:
        for row in others:
            asked = Asked(row.group, row.version, row.plural)
            if asked != own and matches_rule(rule, asked, attributes):
                return asked
    return None


def equivalents(table: ResourceTable, attributes: Attributes) -> list[Resource]:
    """Other versions in which the same objects are served."""
    row = attributes.row
    if row is None:
        return []
    kept = row.storage_group_version or row.api_version
    return [
        other
        for other in table
        if other.plural == row.plural
        and other.api_version != row.api_version
        and (other.storage_group_version or other.api_version) == kept
    ]


def _selects(selector: Json | None, labels: Mapping[str, str]) -> bool:
    return selectors.from_json(selector or {}).matches(labels)


def matches_namespace(selector: Json | None, attributes: Attributes, lookup: Lookup) -> bool:
    """Cluster-scoped objects are never exempt, but for namespaces by their own labels."""
    is_namespace = attributes.group_resource == "namespaces"
    if not (attributes.namespace or is_namespace) or not selector:
        return True
    if is_namespace and not attributes.subresource and attributes.operation in ("CREATE", "UPDATE"):
        return _selects(selector, meta.labels(attributes.object or {}))
    name = attributes.namespace or attributes.name
    found = lookup.get(NAMESPACES, "", name)
    if found is None:
        error: ApiError = not_found("", "namespaces", name)
        raise error
    return _selects(selector, meta.labels(found))


def matches_object(selector: Json | None, attributes: Attributes) -> bool:
    """Whether the object as it will be, or as it was, is selected."""
    if not selector:
        return True
    present = [obj for obj in (attributes.object, attributes.old_object) if obj is not None]
    return any(_selects(selector, meta.labels(obj)) for obj in present)
