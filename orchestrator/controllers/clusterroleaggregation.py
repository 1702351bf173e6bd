"""Aggregated ClusterRoles: a role with an aggregationRule has the rules of all roles that its selectors match.

`admin`, `edit` and `view` are made so: whoever adds a kind adds its rules to them by a label. Roles are taken in the
order of their names, each rule once. The result depends on the whole set, so every change asks again about all
aggregated roles. Source: Concepts, "Using RBAC Authorization", aggregated ClusterRoles.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.api import meta, selectors
from orchestrator.api.meta import Object
from orchestrator.api.resources import CLUSTERROLES
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context


def aggregated(role: Object, roles: Iterable[Object]) -> list[dict[str, Any]]:
    """The rules that an aggregated role shall have."""
    wanted = [selectors.from_json(one) for one in role["aggregationRule"].get("clusterRoleSelectors") or ()]
    rules: list[dict[str, Any]] = []
    for other in sorted(roles, key=meta.name):
        if meta.name(other) == meta.name(role) or not any(one.matches(meta.labels(other)) for one in wanted):
            continue
        rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


class ClusterRoleAggregationController:
    """Keeps the rules of aggregated roles."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self.loop = Loop("clusterrole-aggregation", self.reconcile, workers=1)
        self._roles = context.informers.informer(CLUSTERROLES)
        self._roles.add_handler(self._role_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _role_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and old is not None and _said(old) == _said(new):
            return
        for role in self._roles.cache.list():
            if role.get("aggregationRule"):
                self.loop.queue.add(meta.name(role))

    async def reconcile(self, key: str) -> None:
        role = self._roles.cache.get(key)
        if role is None or not role.get("aggregationRule"):
            return
        rules = aggregated(role, self._roles.cache.list())
        if rules != (role.get("rules") or []):
            await self._client.update(CLUSTERROLES, {**role, "rules": rules})


def _said(role: Object) -> tuple[Any, ...]:
    return role.get("rules"), role.get("aggregationRule"), meta.labels(role)
