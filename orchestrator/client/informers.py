"""The shared informers of one process: one watch and one cache for each resource and selection, whoever asks.

Ask for informers before or after `run`; each is started once. `async with informers:` runs them in the background of
a block. Where several components share a process they are given one `Informers`, and whoever made it runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from types import TracebackType

from orchestrator.api.resources import Resource
from orchestrator.client.cache import Indexer
from orchestrator.client.client import Client
from orchestrator.client.informer import Informer

Selection = tuple[Resource, str | None, str, str]


class Informers:
    """A factory of informers that share one client."""

    def __init__(self, client: Client, random: Random | None = None) -> None:
        self.client = client
        self._random = random or Random()
        self._informers: dict[Selection, Informer] = {}
        self._tasks: dict[Selection, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._background: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def informer(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        indexers: Mapping[str, Indexer] | None = None,
    ) -> Informer:
        selection = (resource, namespace, label_selector, field_selector)
        informer = self._informers.get(selection)
        if informer is None:
            informer = Informer(
                self.client,
                resource,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                random=self._random,
            )
            self._informers[selection] = informer
            if self._group is not None:
                self._start(self._group, selection, informer)
        informer.add_indexers(indexers or {})
        return informer

    def release(self, informer: Informer) -> None:
        """Stops an informer that nobody needs any more: of a resource that is no longer served."""
        for selection, known in list(self._informers.items()):
            if known is informer:
                del self._informers[selection]
                if (task := self._tasks.pop(selection, None)) is not None:
                    task.cancel()

    async def run(self) -> None:
        """Runs all informers, present and to come, until cancelled. A second call waits for the first to end."""
        if self._group is not None:
            await self._over.wait()
            return
        self._over.clear()
        try:
            async with asyncio.TaskGroup() as self._group:
                for selection, informer in self._informers.items():
                    self._start(self._group, selection, informer)
                await asyncio.get_running_loop().create_future()
        finally:
            self._group = None
            self._tasks.clear()
            self._over.set()

    async def wait_synced(self) -> None:
        """Until every informer asked for so far has the whole state."""
        for informer in list(self._informers.values()):
            await informer.wait_synced()

    async def __aenter__(self) -> Informers:
        if self._background is None:
            self._background = asyncio.create_task(self.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._background = self._background, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _start(self, group: asyncio.TaskGroup, selection: Selection, informer: Informer) -> None:
        self._tasks[selection] = group.create_task(informer.run(), name=f"informer {informer.resource.group_resource}")
