"""ClusterRole aggregation, from a label to a right."""

from __future__ import annotations

import asyncio
from random import Random

from orchestrator.api import meta
from orchestrator.api.clock import SystemClock
from orchestrator.api.resources import CLUSTERROLES
from orchestrator.client.informer import Informers
from orchestrator.controllers.clusterroleaggregation import ClusterRoleAggregationController, aggregated
from orchestrator.controllers.context import Context
from tests.integration.access.conftest import Cluster

LABEL = "rbac.authorization.k8s.io/aggregate-to-view"


async def test_a_labelled_role_becomes_part_of_view_edit_and_admin(cluster: Cluster) -> None:
    roles = (await cluster.root.list(CLUSTERROLES)).items
    for role in roles:
        if role.get("aggregationRule"):
            assert aggregated(role, roles) == role["rules"], f"{meta.name(role)} starts as its controller wants it"
    client = cluster.client("system:kube-controller-manager", "system:authenticated")
    rule = {"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["get"]}
    async with Informers(client) as informers:
        controller = ClusterRoleAggregationController(Context(client, informers, SystemClock(), Random(1)))
        await informers.wait_synced()
        running = asyncio.create_task(controller.run())
        labelled = {"metadata": {"name": "widgets-view", "labels": {LABEL: "true"}}, "rules": [rule]}
        await cluster.root.create(CLUSTERROLES, labelled)
        async with asyncio.timeout(5):
            for name in ("view", "edit", "admin"):
                while rule not in (await cluster.root.get(CLUSTERROLES, name))["rules"]:
                    await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
