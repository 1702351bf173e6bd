"""ClusterRole aggregation: the rules of a role with an `aggregationRule` are those of the roles that it selects.

Selected roles are taken in the order of their names, each rule once. Written with server-side apply, as upstream does,
so that nobody else's field is claimed. Source: Using RBAC Authorization, "Aggregated ClusterRoles".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.api import meta, selectors
from orchestrator.api.meta import Object
from orchestrator.api.resources import CLUSTERROLES
from orchestrator.controllers.context import Context
from orchestrator.controllers.loop import Loop

MANAGER = "clusterrole-aggregation-controller"


def aggregated(role: Object, roles: Iterable[Object]) -> list[dict[str, Any]]:
    """The rules that the role should have."""
    chosen = [selectors.from_json(each) for each in role["aggregationRule"].get("clusterRoleSelectors") or ()]
    rules: list[dict[str, Any]] = []
    for each in sorted(roles, key=meta.name):
        if meta.name(each) != meta.name(role) and any(selector.matches(meta.labels(each)) for selector in chosen):
            rules.extend(rule for rule in each.get("rules") or () if rule not in rules)
    return rules


class ClusterRoleAggregationController:
    """Keeps the rules of aggregating roles."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self.loop = Loop("clusterrole-aggregation", self.reconcile)
        self._roles = context.informers.informer(CLUSTERROLES)
        self._roles.add_handler(self._role_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _role_changed(self, old: Object | None, new: Object | None) -> None:
        """Any role may be one that others select; there are few that do."""
        for role in self._roles.cache.list():
            if role.get("aggregationRule"):
                self.loop.queue.add(meta.name(role))

    async def reconcile(self, key: str) -> None:
        role = self._roles.cache.get(key)
        if role is None or not role.get("aggregationRule"):
            return
        rules = aggregated(role, self._roles.cache.list())
        if rules == (role.get("rules") or []):
            return
        wanted = {
            "apiVersion": CLUSTERROLES.api_version,
            "kind": CLUSTERROLES.kind,
            "metadata": {"name": key},
            "rules": rules,
        }
        await self._client.patch(CLUSTERROLES, key, "", wanted, "apply", field_manager=MANAGER, force=True)
