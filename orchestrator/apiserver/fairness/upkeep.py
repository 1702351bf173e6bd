"""The objects behind priority and fairness: those of every cluster exist, and each schema says whether its level does.

A suggested object is kept as it should be as long as its annotation apf.kubernetes.io/autoupdate-spec says so, or
nobody ever changed its spec; what people took over is left to them. Mandatory ones are kept in any case. One that has
the annotation but is no longer suggested goes. Several servers do this side by side; whoever comes second is content.
Source: Kubernetes docs, "API Priority and Fairness", maintenance of the mandatory and suggested configuration objects.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from msgspec import Struct, field

from orchestrator.api import meta
from orchestrator.api.clock import Clock
from orchestrator.api.kinds.flowcontrol_bootstrap import (
    AUTOUPDATE,
    EXEMPT,
    MANDATORY_LEVELS,
    MANDATORY_SCHEMAS,
    SUGGESTED_LEVELS,
    SUGGESTED_SCHEMAS,
)
from orchestrator.api.meta import Object
from orchestrator.api.resources import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS, Resource
from orchestrator.api.status import AlreadyExists, ApiError, Conflict, NotFound
from orchestrator.apiserver.fairness.demand import PERIOD_S
from orchestrator.apiserver.fairness.gate import Gate
from orchestrator.apiserver.fairness.levels import Dangling
from orchestrator.apiserver.lookup import Lookup
from orchestrator.client.client import Client

log = logging.getLogger(__name__)

PRODUCER = "api-priority-and-fairness-config-producer-v1"
CONSUMER = "api-priority-and-fairness-config-consumer-v1"
ENSURE_EVERY_S = 60.0
STATUS_WRITES_MAX = 6  # of one schema in STATUS_WINDOW_S: servers that disagree must not fight
STATUS_WINDOW_S = 60.0
_WANTED: tuple[tuple[Resource, tuple[Object, ...], bool], ...] = (
    (PRIORITYLEVELCONFIGURATIONS, SUGGESTED_LEVELS, False),
    (FLOWSCHEMAS, SUGGESTED_SCHEMAS, False),
    (PRIORITYLEVELCONFIGURATIONS, MANDATORY_LEVELS, True),
    (FLOWSCHEMAS, MANDATORY_SCHEMAS, True),
)


async def ensure(client: Client, lookup: Lookup) -> None:
    """Makes all objects exist as they should. Errors: ApiError."""
    for resource, objects, is_mandatory in _WANTED:
        async with asyncio.TaskGroup() as tasks:
            for want in objects:
                have = lookup.get(resource, "", meta.name(want))
                tasks.create_task(_ensure(client, resource, want, have, is_mandatory=is_mandatory))
    for resource in (FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS):
        wanted = {meta.name(want) for of, objects, _ in _WANTED if of == resource for want in objects}
        for name in unwanted(lookup.list(resource), wanted):
            await _delete(client, resource, name)


async def _ensure(client: Client, resource: Resource, want: Object, have: Object | None, *, is_mandatory: bool) -> None:
    try:
        if have is None:
            await client.create(resource, want, field_manager=PRODUCER)
        elif (revised := revision(have, want, is_mandatory=is_mandatory)) is not None:
            await client.update(resource, revised, field_manager=PRODUCER)
    except (AlreadyExists, Conflict):
        return  # another server or person was quicker; the next round looks at it again


async def _delete(client: Client, resource: Resource, name: str) -> None:
    try:
        await client.delete(resource, name)
    except NotFound:
        return


def revision(have: Object, want: Object, *, is_mandatory: bool) -> Object | None:
    """The object as it should be, None where it is."""
    said = _boolean(meta.annotations(have).get(AUTOUPDATE))
    updates = is_mandatory or (meta.generation(have) == 1 if said is None else said)
    spec = want["spec"] if updates and not _same(have["spec"], want["spec"], meta.name(want)) else have["spec"]
    if spec is have["spec"] and said is updates:
        return None
    annotations = {**meta.annotations(have), AUTOUPDATE: "true" if updates else "false"}
    return {**have, "metadata": {**have["metadata"], "annotations": annotations}, "spec": spec}


def _same(have: Object, want: Object, name: str) -> bool:
    """Of the level `exempt`, shares and lending are the administrator's."""
    if name == EXEMPT and have.get("exempt") is not None and "exempt" in want:
        return {**have, "exempt": want["exempt"]} == want
    return have == want


def unwanted(objects: Iterable[Object], wanted: set[str]) -> list[str]:
    """Names of those that this server's predecessors suggested, and it does not."""
    return [
        meta.name(obj)
        for obj in objects
        if meta.name(obj) not in wanted and _boolean(meta.annotations(obj).get(AUTOUPDATE))
    ]


def _boolean(text: str | None) -> bool | None:
    """As Go reads one; None for anything else."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    return False if text in ("0", "f", "F", "false", "FALSE", "False") else None


class Upkeep(Struct):
    """The tasks that run beside the gate."""

    gate: Gate
    client: Client
    lookup: Lookup
    clock: Clock
    _written: dict[str, list[float]] = field(default_factory=dict)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ensure())
            tasks.create_task(self._adjust())
            tasks.create_task(self._tell())

    async def _ensure(self) -> None:
        while True:
            await asyncio.sleep(ENSURE_EVERY_S)
            try:
                await ensure(self.client, self.lookup)
            except* (ApiError, ConnectionError) as errors:
                log.warning("flow schemas and priority levels not ensured", extra={"cause": str(errors.exceptions)})

    async def _adjust(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            self.gate.adjust()

    async def _tell(self) -> None:
        while True:
            await self.gate.is_stale.wait()
            self.gate.is_stale.clear()
            is_done = True
            for name, want in self.gate.levels.conditions(self.lookup.list(FLOWSCHEMAS)).items():
                is_done = await self._write(name, want) and is_done
            if not is_done:
                asyncio.get_running_loop().call_later(STATUS_WINDOW_S / 2, self.gate.is_stale.set)

    async def _write(self, name: str, want: Dangling) -> bool:
        """Whether there is no need to try again."""
        now = self.clock.now()
        lately = [when for when in self._written.get(name, ()) if now - when < STATUS_WINDOW_S]
        self._written[name] = lately
        if len(lately) >= STATUS_WRITES_MAX:
            return False
        lately.append(now)
        condition = {
            "type": "Dangling",
            "status": want.status,
            "reason": want.reason,
            "message": want.message,
            "lastTransitionTime": meta.format_time(now),
        }
        patch = {
            "apiVersion": FLOWSCHEMAS.api_version,
            "kind": FLOWSCHEMAS.kind,
            "metadata": {"name": name},
            "status": {"conditions": [condition]},
        }
        try:
            await self.client.patch(
                FLOWSCHEMAS, name, "", patch, "apply", subresource="status", field_manager=CONSUMER, force=True
            )
        except NotFound:
            return True
        except (ApiError, ConnectionError) as error:
            log.warning("status of flow schema not written", extra={"name": name, "cause": str(error)})
            return False
        return True
