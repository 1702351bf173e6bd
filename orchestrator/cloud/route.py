"""The route controller: the cloud's router knows behind which node each pod network lies.

All routes are one piece of work, done whenever a node's pod networks or addresses change, and now and then in case
somebody changed the router. Each node then says in NetworkUnavailable whether its own routes are there.
Source: cloud-provider controllers/route.
"""

from __future__ import annotations

import asyncio
import logging

from orchestrator.api import conditions, meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES
from orchestrator.client.loop import Loop
from orchestrator.cloud import route_plan
from orchestrator.cloud.context import Context
from orchestrator.cloud.provider import CloudError, Route, Routes

log = logging.getLogger(__name__)

LOOK_S = 10.0
ALL = "routes"  # the only key


class RouteController:
    """Routes to all nodes' pods."""

    def __init__(self, context: Context, routes: Routes) -> None:
        self._client = context.client
        self._clock = context.clock
        self._routes = routes
        self._recorder = context.recorder("route_controller")
        self._nodes = context.informers.informer(NODES)
        self.loop = Loop("route", self.reconcile, workers=1)
        self._nodes.add_handler(self._changed)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.loop.run())
            while True:
                self.loop.queue.add(ALL)
                await asyncio.sleep(LOOK_S)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or route_plan.routes_of(old) != route_plan.routes_of(new):
            self.loop.queue.add(ALL)

    async def reconcile(self, key: str) -> None:
        nodes = sorted(self._nodes.cache.list(), key=meta.name)
        try:
            present = await self._routes.list()
        except CloudError as error:
            raise status.ServiceUnavailable(f"routes could not be listed: {error}") from error
        todo = route_plan.changes(present, nodes)
        made, failures = set(present), []
        for route in todo.delete:
            try:
                await self._routes.delete(route)
            except CloudError as error:
                failures.append(f"could not delete route {route.destination}: {error}")
        for route in todo.create:
            try:
                await self._routes.create(route)
                made = {other for other in made if other.destination != route.destination} | {route}
            except CloudError as error:
                failures.append(f"could not create route {route.destination} via {route.via}: {error}")
                self._tell(nodes, route, str(error))
        if todo.delete or todo.create:
            log.info("routes set", extra={"new": len(todo.create), "stale": len(todo.delete)})
        for node in nodes:
            await self._say(node, made)
        if failures:
            raise status.ServiceUnavailable("; ".join(failures))

    def _tell(self, nodes: list[Object], route: Route, error: str) -> None:
        for node in nodes:
            if route.destination in route_plan.pod_cidrs(node):
                message = f"Could not create route {route.destination} for node {meta.name(node)}: {error}"
                self._recorder.event(node, "Warning", "FailedToCreateRoute", message)

    async def _say(self, node: Object, made: set[Route]) -> None:
        wanted = route_plan.condition(node, [route for route in route_plan.routes_of(node) if route in made])
        if wanted is None or route_plan.says(node, wanted):
            return
        now = meta.format_time(self._clock.now())
        known = (node.get("status") or {}).get("conditions")
        (new,) = [one for one in conditions.updated(known, wanted, now) if one["type"] == wanted["type"]]
        patch = {"status": {"conditions": [{**new, "lastHeartbeatTime": now}]}}
        try:
            await self._client.patch(NODES, meta.name(node), "", patch, "strategic", subresource="status")
        except status.NotFound:
            return
