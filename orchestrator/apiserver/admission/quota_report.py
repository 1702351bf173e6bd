"""What a quota's status says is used, after writes that add to it.

Upstream's admission writes the new sum into the status before it lets an object in, and its controller counts anew only
what goes, or every five minutes. Here admission counts the objects themselves, and writes the sum shortly after: once
for all that came together. A status that another wrote meanwhile is looked at again. Errors: those of the writes are
logged; the next write that adds, or the controller, tells again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from orchestrator.api import quantity
from orchestrator.api.meta import Object
from orchestrator.api.podresources import Amounts
from orchestrator.api.resources import RESOURCEQUOTAS
from orchestrator.api.status import ApiError, Conflict, NotFound
from orchestrator.apiserver.lookup import Lookup
from orchestrator.client.client import Client

log = logging.getLogger(__name__)

TOGETHER_S = 0.05  # what comes within is told by one write
TRIES_MAX = 5

Count = Callable[[Object], Amounts]  # a quota → what is used of each of its resources that can be counted here


class QuotaReports:
    """Writes statuses through `client`, which acts as the server itself."""

    def __init__(self, lookup: Lookup, count: Count, client: Client) -> None:
        self._lookup = lookup
        self._count = count
        self._client = client
        self._due: dict[tuple[str, str], None] = {}  # (namespace, name)
        self._task: asyncio.Task[None] | None = None

    def due(self, namespace: str, name: str) -> None:
        self._due[namespace, name] = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        try:
            while self._due:
                await asyncio.sleep(TOGETHER_S)
                due, self._due = self._due, {}
                for namespace, name in due:
                    await self._write(namespace, name)
        finally:
            self._task = None

    async def _write(self, namespace: str, name: str) -> None:
        for _ in range(TRIES_MAX):
            quota = self._lookup.get(RESOURCEQUOTAS, namespace, name)
            if quota is None:
                return
            hard, used = (quota.get("spec") or {}).get("hard") or {}, self._count(quota)
            told = (quota.get("status") or {}).get("used") or {}
            shown = {resource: told[resource] for resource in hard if resource in told}
            shown |= {resource: quantity.format_used(resource, amount) for resource, amount in used.items()}
            status = {"hard": hard, "used": dict(sorted(shown.items()))}
            if status == quota.get("status"):
                return
            try:
                await self._client.update(RESOURCEQUOTAS, {**quota, "status": status}, subresource="status")
                return
            except NotFound:
                return
            except Conflict:
                continue  # the controller counted too
            except ApiError as error:
                log.warning("no status of a quota", extra={"quota": f"{namespace}/{name}", "why": str(error)})
                return
