"""Serving custom resources: definitions become rows, endpoints and caches, and go again.

One task follows the definitions, one after the other, in the order in which they changed. What is served depends on the
stored definition alone, so each of several servers comes to the same by itself; the status is written by whichever is
first. A definition is served before its status says so: who waits for `Established` may use it at once.
A deleted definition stays until its resources are gone. Source: k8s.io/apiextensions-apiserver, controllers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from orchestrator.api import conditions, custom, decoding, meta
from orchestrator.api.kinds import registry
from orchestrator.api.meta import Object
from orchestrator.api.resources import CUSTOMRESOURCEDEFINITIONS, Resource
from orchestrator.api.status import ApiError, Conflict, NotFound
from orchestrator.api.wire import Request
from orchestrator.apiserver import encoding
from orchestrator.apiserver.custom import names
from orchestrator.apiserver.deletion import CLEANUP
from orchestrator.apiserver.endpoint import Core
from orchestrator.apiserver.lookup import Lookup
from orchestrator.client.client import Client

log = logging.getLogger(__name__)

RETRY_S = 1.0
RECHECK_S = 0.2  # while instances are going


MANAGER = "kube-apiserver"  # who wrote a status, as upstream says it


class CustomResources:
    """`start` after the cache is loaded: definitions that are established already are served before it returns."""

    def __init__(self, core: Core, lookup: Lookup, client: Client) -> None:
        self._core = core
        self._lookup = lookup
        self._client = client
        self._served: dict[str, tuple[str, list[Resource]]] = {}  # definition → what it was served as
        self._changed: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._lookup.subscribe(CUSTOMRESOURCEDEFINITIONS, self._definition_changed)
        for definition in list(self._lookup.list(CUSTOMRESOURCEDEFINITIONS)):
            if names.is_served(definition):
                await self._serve(definition)
        self._spawn(self._follow())

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _definition_changed(self, old: Object | None, new: Object | None) -> None:
        self._queue(meta.name(new or old or {}))
        freed = old is not None and (new is None or _names(old) != _names(new))
        if freed and old is not None:  # another may have waited for a name of it
            for other in self._group(old):
                self._queue(meta.name(other))

    def _queue(self, name: str) -> None:
        if name not in self._queued:
            self._queued.add(name)
            self._changed.put_nowait(name)

    def _group(self, definition: Object) -> list[Object]:
        group, own = definition["spec"]["group"], meta.name(definition)
        found = self._lookup.list(CUSTOMRESOURCEDEFINITIONS)
        return [other for other in found if other["spec"]["group"] == group and meta.name(other) != own]

    async def _follow(self) -> None:
        while True:
            name = await self._changed.get()
            self._queued.discard(name)
            try:
                await self._sync(name)
            except (ApiError, OSError) as error:
                if not isinstance(error, (Conflict, NotFound)):  # those change the definition, which comes again
                    log.warning("definition not carried out", extra={"definition": name, "error": str(error)})
                    asyncio.get_running_loop().call_later(RETRY_S, self._queue, name)
            except Exception:  # a fault of ours must not stop the others
                log.exception("definition not carried out", extra={"definition": name})

    async def _sync(self, name: str) -> None:
        definition = self._lookup.get(CUSTOMRESOURCEDEFINITIONS, "", name)
        if definition is None:
            self._withdraw(name)
            return
        if meta.is_deleting(definition):
            if names.is_served(definition):
                await self._serve(definition)
            if CLEANUP in meta.finalizers(definition):
                self._spawn(self._clean_up(name, meta.uid(definition)))
            return
        status = names.next_status(definition, self._group(definition), self._core.now())
        wanted = {**definition, "status": status}
        if names.is_served(wanted):
            await self._serve(wanted)
        if status != definition.get("status"):
            await self._client.update(CUSTOMRESOURCEDEFINITIONS, wanted, subresource="status", field_manager=MANAGER)

    # -- rows ----------------------------------------------------------------------------------------------------------

    async def _serve(self, definition: Object) -> None:
        name, as_what = meta.name(definition), _identity(definition)
        if name in self._served and self._served[name][0] == as_what:
            return
        rows = custom.resources_of(definition)
        if meta.is_deleting(definition):
            rows = [replace(row, verbs=tuple(verb for verb in row.verbs if verb != "create")) for row in rows]
        stored = next(row for row in rows if not row.storage_group_version)
        assert stored.custom is not None
        selectable = {path for row in rows if row.custom is not None for path in row.custom.selectable}
        await self._core.cache.open(stored, tuple(sorted(selectable)), lambda values: self._completed(stored, values))
        self._forget(self._served.get(name, ("", []))[1])  # until here those were served: nobody sees a gap
        for row in rows:
            if row.verbs:
                self._core.resources.add(row)
                self._core.add(row, stored)
        self._served[name] = (as_what, rows)
        log.info("serving custom resource", extra={"definition": name})

    async def _completed(self, stored: Resource, values: list[bytes]) -> list[bytes]:
        """Stored values in the version that is kept now, without what its schema does not have, with its defaults."""
        objects = [encoding.decode(value) for value in values]
        others = [obj for obj in objects if obj.get("apiVersion") != stored.api_version]
        await self._core.conversions.ready(stored, others, stored.api_version)
        webhook, rules = self._core.conversions.webhook(stored), registry.rules(stored)
        made = []
        for obj in objects:
            if webhook is not None:
                obj = webhook.converted(obj, stored.api_version)
            obj["apiVersion"] = stored.api_version
            decoding.decode_as(obj, stored)
            rules.default(obj)
            made.append(encoding.encode(stored, obj))
        return made

    def _withdraw(self, name: str) -> None:
        _, rows = self._served.pop(name, ("", []))
        self._forget(rows)
        if rows:
            self._core.cache.drop(rows[0])

    def _forget(self, rows: list[Resource]) -> None:
        for row in rows:
            self._core.resources.remove(row)
            self._core.remove(row)

    # -- the end of a definition ---------------------------------------------------------------------------------------

    async def _clean_up(self, name: str, uid: str) -> None:
        """Deletes the instances, waits until they are gone, and lets the definition go."""
        try:
            while True:
                definition = self._lookup.get(CUSTOMRESOURCEDEFINITIONS, "", name)
                if definition is None or meta.uid(definition) != uid or CLEANUP not in meta.finalizers(definition):
                    return
                try:
                    if await self._clean_up_once(definition):
                        return
                except (Conflict, NotFound):
                    continue
                except (ApiError, OSError) as error:
                    log.warning("instances not deleted", extra={"definition": name, "error": str(error)})
                await asyncio.sleep(RECHECK_S)
        except Exception:
            log.exception("instances not deleted", extra={"definition": name})

    async def _clean_up_once(self, definition: Object) -> bool:
        reason, message = "NeverEstablished", "resource was never established"
        if names.is_served(definition):
            if not await self._delete_instances(definition):
                why = ("InstanceDeletionInProgress", "CustomResource deletion is in progress")
                if (shown := _terminating(definition, "True", *why, self._core.now())) != definition:
                    await self._client.update(
                        CUSTOMRESOURCEDEFINITIONS, shown, subresource="status", field_manager=MANAGER
                    )
                return False
            reason, message = "InstanceDeletionCompleted", "removed all instances"
        done = _terminating(definition, "False", reason, message, self._core.now())
        left = [one for one in meta.finalizers(definition) if one != CLEANUP]
        done["metadata"] = {**done["metadata"], "finalizers": left}
        await self._client.update(CUSTOMRESOURCEDEFINITIONS, done, subresource="status", field_manager=MANAGER)
        return True

    async def _delete_instances(self, definition: Object) -> bool:
        """Whether none is left."""
        row = next((row for row in self._served[meta.name(definition)][1] if row.verbs), None)
        if row is None:
            return True
        entries = self._core.cache.of(self._core.endpoints[row.group, row.version, row.plural].stored).range()
        for namespace in {entry.namespace for entry in entries}:
            await self._client.request(Request("DELETE", row.path(namespace)))
        return not entries


def _names(definition: Object) -> object:
    return (definition.get("status") or {}).get("acceptedNames")


def _identity(definition: Object) -> str:
    """What makes the rows of a definition what they are."""
    generation = (definition.get("metadata") or {}).get("generation")
    return repr((meta.uid(definition), generation, _names(definition), meta.is_deleting(definition)))


def _terminating(definition: Object, status: str, reason: str, message: str, now: str) -> Object:
    condition = {"type": "Terminating", "status": status, "reason": reason, "message": message}
    before = conditions.find((definition.get("status") or {}).get("conditions"), "Terminating")
    if before is not None and all(before.get(key) == value for key, value in condition.items()):
        return dict(definition)
    held = definition.get("status") or {}
    return {**definition, "status": {**held, "conditions": conditions.updated(held.get("conditions"), condition, now)}}
