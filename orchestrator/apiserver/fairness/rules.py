"""FlowSchemas in force, and which of them a request matches: the first by matching precedence, then by name.

A schema matches by one of its rules: a subject of the rule is who asks, and a resource rule (or for plain paths a
non-resource rule) is what they ask. `*` stands for all where it is the only entry of a list.
Source: KEP-1040, "Request Categorization"; Kubernetes docs, "API Priority and Fairness", FlowSchema.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.kinds.flowcontrol_bootstrap import BY_NAMESPACE, BY_USER, CATCH_ALL
from orchestrator.api.meta import Object
from orchestrator.api.wire import Identity
from orchestrator.apiserver.request import RequestInfo

ALL = "*"
ACCOUNT_PREFIX = "system:serviceaccount:"


class FlowSchema(Struct, frozen=True):
    """One FlowSchema; `told_apart` is how its requests make flows: ByUser, ByNamespace, or "" for a single flow."""

    name: str
    uid: str
    level: str
    precedence: int
    told_apart: str
    rules: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, obj: Object) -> FlowSchema:
        spec = obj.get("spec") or {}
        return cls(
            meta.name(obj),
            meta.uid(obj),
            (spec.get("priorityLevelConfiguration") or {}).get("name") or "",
            spec.get("matchingPrecedence") or 0,
            (spec.get("distinguisherMethod") or {}).get("type") or "",
            spec.get("rules") or (),
        )

    def matches(self, user: Identity, info: RequestInfo) -> bool:
        return any(_rule_matches(rule, user, info) for rule in self.rules)

    def distinguisher(self, user: Identity, info: RequestInfo) -> str:
        """What tells flows of this schema apart."""
        if self.told_apart == BY_USER:
            return user.name
        return info.namespace if self.told_apart == BY_NAMESPACE else ""


def in_order(schemas: Iterable[FlowSchema]) -> list[FlowSchema]:
    """In the order of matching."""
    return sorted(schemas, key=lambda one: (one.precedence, one.name))


def matching(schemas: Sequence[FlowSchema], user: Identity, info: RequestInfo) -> FlowSchema:
    """The schema of a request; `catch-all`, which must be among `schemas`, where none matches."""
    for schema in schemas:
        if schema.matches(user, info):
            return schema
    return next(schema for schema in schemas if schema.name == CATCH_ALL)


def _rule_matches(rule: Mapping[str, Any], user: Identity, info: RequestInfo) -> bool:
    if not any(_is_subject(subject, user) for subject in rule.get("subjects") or ()):
        return False
    if info.is_resource:
        return any(_resource_matches(one, info) for one in rule.get("resourceRules") or ())
    return any(_path_matches(one, info) for one in rule.get("nonResourceRules") or ())


def _is_subject(subject: Mapping[str, Any], user: Identity) -> bool:
    kind = subject.get("kind")
    if kind == "User":
        name = (subject.get("user") or {}).get("name")
        return name in (ALL, user.name)
    if kind == "Group":
        name = (subject.get("group") or {}).get("name")
        return name == ALL or name in user.groups
    if kind == "ServiceAccount":
        account = subject.get("serviceAccount") or {}
        prefix = f"{ACCOUNT_PREFIX}{account.get('namespace')}:"
        name = account.get("name")
        return user.name.startswith(prefix) if name == ALL else user.name == f"{prefix}{name}"
    return False


def _has(entries: Sequence[str] | None, wanted: str) -> bool:
    return entries is not None and (wanted in entries or list(entries) == [ALL])


def _resource_matches(rule: Mapping[str, Any], info: RequestInfo) -> bool:
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    if not (
        _has(rule.get("verbs"), info.verb)
        and _has(rule.get("resources"), resource)
        and _has(rule.get("apiGroups"), info.group)
    ):
        return False
    return _has(rule.get("namespaces"), info.namespace) if info.namespace else bool(rule.get("clusterScope"))


def _path_matches(rule: Mapping[str, Any], info: RequestInfo) -> bool:
    if not _has(rule.get("verbs"), info.verb):
        return False
    for path in rule.get("nonResourceURLs") or ():
        if path in (ALL, info.path) or info.path.startswith(path.removesuffix("*").removesuffix("/") + "/"):
            return True
    return False
