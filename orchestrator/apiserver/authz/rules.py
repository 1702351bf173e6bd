"""Policy rules: what one rule of a Role allows, and whether some rules cover others.

A rule lists verbs, API groups, resources (`pods`, `pods/log`, `*`, `*/log`) and perhaps resource names; or verbs and
URL paths (`/healthz`, `/livez/*`, `*`). Anything not listed is not allowed; there is no rule that takes away.
Sources: Kubernetes docs, "Using RBAC Authorization"; rbac/v1 PolicyRule; the wording of a rule in messages is that of
kube-apiserver.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.apiserver.request import Attributes

ALL = "*"


class Rule(Struct, frozen=True):
    verbs: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    urls: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, rule: dict[str, Any]) -> Rule:
        return cls(
            frozenset(rule.get("verbs") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("resources") or ()),
            frozenset(rule.get("resourceNames") or ()),
            tuple(rule.get("nonResourceURLs") or ()),
        )

    def allows(self, attributes: Attributes) -> bool:
        if not attributes.is_resource:
            return self._has_verb(attributes.verb) and any(_url_matches(url, attributes.path) for url in self.urls)
        return self.covers_kind(
            attributes.verb, attributes.group, attributes.resource, attributes.subresource
        ) and self.covers_name(attributes.name)

    def covers_kind(self, verb: str, group: str, resource: str, subresource: str) -> bool:
        """Whether the rule speaks of this verb on this kind, whatever the object's name."""
        return (
            self._has_verb(verb)
            and (ALL in self.groups or group in self.groups)
            and self._has_resource(resource, subresource)
        )

    def covers_name(self, name: str) -> bool:
        return not self.names or name in self.names

    def _has_verb(self, verb: str) -> bool:
        return ALL in self.verbs or verb in self.verbs

    def _has_resource(self, resource: str, subresource: str) -> bool:
        if ALL in self.resources:
            return True
        if not subresource:
            return resource in self.resources
        return f"{resource}/{subresource}" in self.resources or f"*/{subresource}" in self.resources


ANYTHING = (
    Rule(frozenset((ALL,)), frozenset((ALL,)), frozenset((ALL,))),
    Rule(frozenset((ALL,)), urls=(ALL,)),
)


def _url_matches(pattern: str, path: str) -> bool:
    if pattern in (ALL, path):
        return True
    return pattern.endswith("*") and path.startswith(pattern.rstrip("*"))


class Right(Struct, frozen=True, order=True):
    """The smallest grant: one verb on one resource of one group, perhaps of one name; or on a URL."""

    verb: str
    group: str = ""
    resource: str = ""
    name: str = ""
    url: str = ""


def rights(rule: Rule) -> list[Right]:
    """A rule taken apart."""
    found = [Right(verb, url=url) for verb in sorted(rule.verbs) for url in rule.urls]
    for group in sorted(rule.groups):
        for resource in sorted(rule.resources):
            for verb in sorted(rule.verbs):
                found += [Right(verb, group, resource, name) for name in sorted(rule.names) or [""]]
    return found


def missing(held: Sequence[Rule], asked: Iterable[Rule]) -> list[Right]:
    """What of `asked` is not covered by `held`: granting it would be an escalation."""
    return [
        right for rule in asked for right in rights(rule) if not any(_holds(rule_held, right) for rule_held in held)
    ]


def _holds(rule: Rule, right: Right) -> bool:
    if right.url:
        # Only a pattern covers a pattern: `/api/*` is held by `/api/*`, `/*` and `*`.
        return (ALL in rule.verbs or right.verb in rule.verbs) and any(
            _url_matches(url, right.url) for url in rule.urls
        )
    resource, _, subresource = right.resource.partition("/")
    if not rule.covers_kind(right.verb, right.group, resource, subresource):
        return False
    return not rule.names or (right.name != "" and right.name in rule.names)


def describe(rights_missing: Iterable[Right]) -> list[str]:
    """One line for each resource or URL, verbs together: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`."""
    together: dict[tuple[str, str, str, str], list[str]] = {}
    for right in rights_missing:
        verbs = together.setdefault((right.group, right.resource, right.name, right.url), [])
        if right.verb not in verbs:
            verbs.append(right.verb)
    lines = []
    for (group, resource, name, url), verbs in together.items():
        parts = [] if url else [f"APIGroups:{quoted([group])}", f"Resources:{quoted([resource])}"]
        parts += [f"NonResourceURLs:{quoted([url])}"] if url else []
        parts += [f"ResourceNames:{quoted([name])}"] if name else []
        lines.append("{" + ", ".join([*parts, f"Verbs:{quoted(verbs)}"]) + "}")
    return sorted(lines)


def quoted(words: Iterable[str]) -> str:
    """A list as Go prints one: `["a" "b"]`."""
    return "[" + " ".join(f'"{word}"' for word in words) + "]"
