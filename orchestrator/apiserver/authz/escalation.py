"""No one grants what they do not hold: the check on every write of a role or a binding.

A role may contain only rights that its writer has (in that namespace, or everywhere for a ClusterRole), unless the
writer may `escalate` it; a binding may name only a role whose rights its writer has, unless the writer may `bind` it.
system:masters may anything. An update that leaves the rules alone grants nothing and is not looked at.
Source: Kubernetes docs, "Using RBAC Authorization", privilege escalation prevention; wording of kube-apiserver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.status import forbidden, not_found
from orchestrator.api.wire import Identity
from orchestrator.apiserver.authz.bootstrap import API_GROUP
from orchestrator.apiserver.authz.chain import MASTERS
from orchestrator.apiserver.authz.rbac import Rbac
from orchestrator.apiserver.authz.rules import ANYTHING, Rule, describe, missing, quoted
from orchestrator.apiserver.handlers import Strategy
from orchestrator.apiserver.request import Attributes, Authorizer


class EscalationCheck:
    """The strategy of the four RBAC kinds; it refuses before a write and keeps nothing."""

    def __init__(self, rbac: Rbac, authorizer: Authorizer) -> None:
        self._rbac = rbac
        self._authorizer = authorizer

    def strategies(self) -> Mapping[str, Strategy]:
        kinds = ("roles", "clusterroles", "rolebindings", "clusterrolebindings")
        return {f"{kind}.{API_GROUP}": self for kind in kinds}

    async def before_write(self, attributes: Attributes) -> None:
        if attributes.object is None or MASTERS in attributes.user.groups:
            return
        if attributes.resource in ("roles", "clusterroles"):
            self._check_role(attributes, attributes.object)
        else:
            self._check_binding(attributes, attributes.object)

    async def after_write(self, attributes: Attributes, *, succeeded: bool) -> None:
        """Nothing was taken, so there is nothing to give back."""

    def _check_role(self, attributes: Attributes, role: Object) -> None:
        old = attributes.old_object
        fields = ("rules", "aggregationRule")
        if old is not None and all((old.get(field) or []) == (role.get(field) or []) for field in fields):
            return
        if self._may(attributes, "escalate", attributes.resource, meta.name(role)):
            return
        if role.get("aggregationRule") and missing(self._held(attributes), ANYTHING):
            self._refuse(attributes, "must have cluster-admin privileges to use the aggregationRule")
        self._confirm(attributes, [Rule.from_json(rule) for rule in role.get("rules") or ()])

    def _check_binding(self, attributes: Attributes, binding: Object) -> None:
        old = attributes.old_object
        if old is not None and all(old.get(field) == binding.get(field) for field in ("roleRef", "subjects")):
            return
        reference = binding.get("roleRef") or {}
        plural = "roles" if reference.get("kind") == "Role" else "clusterroles"
        if self._may(attributes, "bind", plural, reference.get("name", "")):
            return
        namespace = attributes.namespace if plural == "roles" else ""
        rules = self._rbac.role(namespace, reference.get("name", ""))
        if rules is None:
            raise not_found(API_GROUP, plural, reference.get("name", ""))
        self._confirm(attributes, rules)

    def _may(self, attributes: Attributes, verb: str, resource: str, name: str) -> bool:
        asked = Attributes(
            user=attributes.user,
            verb=verb,
            group=API_GROUP,
            version="*",
            resource=resource,
            namespace=attributes.namespace,
            name=name,
        )
        return self._authorizer.authorize(asked).allowed

    def _held(self, attributes: Attributes) -> list[Rule]:
        return [grant.rule for grant in self._rbac.grants(attributes.user).within(attributes.namespace)]

    def _confirm(self, attributes: Attributes, asked: Sequence[Rule]) -> None:
        lacking = missing(self._held(attributes), asked)
        if lacking:
            faults = self._rbac.grants(attributes.user).faults_within(attributes.namespace)
            self._refuse(attributes, granting(attributes.user, describe(lacking), faults))

    def _refuse(self, attributes: Attributes, why: str) -> None:
        name = meta.name(attributes.object or {}) or attributes.name
        raise forbidden(attributes.group, attributes.resource, name, why)


def granting(user: Identity, rights: Sequence[str], faults: Sequence[str]) -> str:
    message = (
        f'user "{user.name}" (groups={quoted(user.groups)}) is attempting to grant RBAC permissions not currently '
        "held:\n" + "\n".join(rights)
    )
    return message + (f"; resolution errors: [{', '.join(faults)}]" if faults else "")
