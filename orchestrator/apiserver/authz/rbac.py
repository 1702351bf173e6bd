"""RBAC: roles say what is allowed, bindings say to whom.

Bindings are indexed by subject as the watch cache reports them, so a question costs what the asker is bound to, not
what the cluster holds. For each (user, groups) the bound rules are resolved once and kept until any role or binding
changes, and for each kind asked about the matching rules are kept too: a repeated check is two dictionary reads (1 µs).
A binding to a role that does not exist grants nothing and says so in the reason.
Source: Kubernetes docs, "Using RBAC Authorization"; reasons as kube-apiserver words them.
"""

from __future__ import annotations

from msgspec import Struct, field

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from orchestrator.api.wire import Identity
from orchestrator.apiserver.authn.serviceaccount import split_user_name, user_name
from orchestrator.apiserver.authz.rules import Rule
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes, Decision

IDENTITIES_MAX = 2048
KINDS_MAX = 4096
GROUP = "rbac.authorization.k8s.io"

Place = tuple[str, str]  # namespace ("" for the cluster) and name
Subject = tuple[str, str]  # "User" or "Group", and its name


class Grant(Struct, frozen=True):
    """One rule that reaches an identity, and through which binding."""

    rule: Rule
    source: str


class Grants(Struct):
    """All that reaches one identity: everywhere ("") and by namespace; `faults` are bindings to absent roles."""

    rules: dict[str, list[Grant]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    by_kind: dict[tuple[str, str, str, str, str], list[Grant]] = field(default_factory=dict)

    def within(self, namespace: str) -> list[Grant]:
        everywhere = self.rules.get("", [])
        return everywhere + self.rules.get(namespace, []) if namespace else everywhere

    def faults_within(self, namespace: str) -> list[str]:
        return self.faults.get("", []) + (self.faults.get(namespace, []) if namespace else [])

    def of_kind(self, asked: Attributes) -> list[Grant]:
        """The grants that speak of this verb on this kind in this namespace, whatever the object's name."""
        kind = (asked.verb, asked.group, asked.resource, asked.subresource, asked.namespace)
        found = self.by_kind.get(kind)
        if found is None:
            if len(self.by_kind) >= KINDS_MAX:
                self.by_kind.clear()
            found = self.by_kind[kind] = [
                grant for grant in self.within(asked.namespace) if grant.rule.covers_kind(*kind[:4])
            ]
        return found


class Rbac:
    def __init__(self, lookup: Lookup) -> None:
        self._roles: dict[Place, tuple[Rule, ...]] = {}
        self._bindings: dict[Place, Object] = {}
        self._by_subject: dict[Subject, set[Place]] = {}
        self._resolved: dict[tuple[str, tuple[str, ...]], Grants] = {}
        for resource in (ROLES, CLUSTERROLES):
            lookup.subscribe(resource, self._role_changed)
        for resource in (ROLEBINDINGS, CLUSTERROLEBINDINGS):
            lookup.subscribe(resource, self._binding_changed)

    def authorize(self, attributes: Attributes) -> Decision:
        grants = self.grants(attributes.user)
        if attributes.is_resource:
            allowed = next((one for one in grants.of_kind(attributes) if one.rule.covers_name(attributes.name)), None)
        else:
            allowed = next((one for one in grants.within("") if one.rule.allows(attributes)), None)
        if allowed is not None:
            return Decision(True, allowed.source)
        faults = grants.faults_within(attributes.namespace)
        return Decision(False, f"RBAC: {_joined(faults)}" if faults else "")

    def grants(self, user: Identity) -> Grants:
        key = (user.name, user.groups)
        found = self._resolved.get(key)
        if found is None:
            if len(self._resolved) >= IDENTITIES_MAX:
                self._resolved.clear()
            found = self._resolved[key] = self._resolve(user)
        return found

    def role(self, namespace: str, name: str) -> tuple[Rule, ...] | None:
        """The rules of a Role, or of a ClusterRole where the namespace is ""."""
        return self._roles.get((namespace, name))

    def _resolve(self, user: Identity) -> Grants:
        grants = Grants()
        subjects = [("User", user.name), *(("Group", group) for group in user.groups)]
        seen: set[Place] = set()
        for subject in subjects:
            for place in sorted(self._by_subject.get(subject, ())):
                if place not in seen:
                    seen.add(place)
                    self._bind(grants, place, subject)
        return grants

    def _bind(self, grants: Grants, place: Place, subject: Subject) -> None:
        binding = self._bindings[place]
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        rules = self._roles.get(("" if kind == "ClusterRole" else place[0], name))
        if rules is None:
            fault = f'{kind.lower()}.{GROUP} "{name}" not found'
            grants.faults.setdefault(place[0], []).append(fault)
            return
        source = f'RBAC: allowed by {_shown(place)} of {kind} "{name}" to {_shown_subject(subject)}'
        grants.rules.setdefault(place[0], []).extend(Grant(rule, source) for rule in rules)

    def _role_changed(self, old: Object | None, new: Object | None) -> None:
        changed = new or old or {}
        place = (meta.namespace(changed), meta.name(changed))
        if new is None:
            self._roles.pop(place, None)
        else:
            self._roles[place] = tuple(Rule.from_json(rule) for rule in new.get("rules") or ())
        self._resolved.clear()

    def _binding_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None:
            place = (meta.namespace(old), meta.name(old))
            self._bindings.pop(place, None)
            for subject in subjects_of(old):
                self._by_subject.get(subject, set()).discard(place)
                if not self._by_subject.get(subject):
                    self._by_subject.pop(subject, None)
        if new is not None:
            place = (meta.namespace(new), meta.name(new))
            self._bindings[place] = new
            for subject in subjects_of(new):
                self._by_subject.setdefault(subject, set()).add(place)
        self._resolved.clear()


def subjects_of(binding: Object) -> list[Subject]:
    """A service account is the user that its tokens name; without a namespace it is of the binding's."""
    found: list[Subject] = []
    for subject in binding.get("subjects") or ():
        if subject.get("kind") == "ServiceAccount":
            namespace = subject.get("namespace") or meta.namespace(binding)
            found.append(("User", user_name(namespace, subject["name"])))
        else:
            found.append((subject.get("kind", ""), subject.get("name", "")))
    return found


def _shown(place: Place) -> str:
    namespace, name = place
    return f'RoleBinding "{name}/{namespace}"' if namespace else f'ClusterRoleBinding "{name}"'


def _shown_subject(subject: Subject) -> str:
    kind, name = subject
    account = split_user_name(name) if kind == "User" else None
    return f'ServiceAccount "{account[1]}/{account[0]}"' if account else f'{kind} "{name}"'


def _joined(faults: list[str]) -> str:
    unique = list(dict.fromkeys(faults))
    return unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
