"""The APIServices of what this server serves itself: one a group version, marked as kept by the server.

Those of built-in groups are made when it starts, those of custom resources follow their definitions. One that
somebody made by hand, without the mark, is left alone.
Source: k8s.io/kube-aggregator, autoregister; kube-apiserver, aggregator (the priorities) and crdregistration.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import APISERVICES, CUSTOMRESOURCEDEFINITIONS, ROWS
from orchestrator.api.status import AlreadyExists, ApiError, Conflict, NotFound
from orchestrator.apiserver.custom import names
from orchestrator.apiserver.lookup import Lookup
from orchestrator.client.client import Client

log = logging.getLogger(__name__)

MANAGED = "kube-aggregator.kubernetes.io/automanaged"
ON_START, ALWAYS = "onstart", "true"
RETRY_S = 1.0
GROUP_PRIORITIES = {
    "": 18000, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700, "authorization.k8s.io": 17600,
    "autoscaling": 17500, "batch": 17400, "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100,
    "rbac.authorization.k8s.io": 17000, "storage.k8s.io": 16800, "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600, "coordination.k8s.io": 16500,
    "node.k8s.io": 16300, "discovery.k8s.io": 16200, "flowcontrol.apiserver.k8s.io": 16100, "resource.k8s.io": 15900,
}  # fmt: skip
VERSION_PRIORITIES = {
    ("", "v1"): 1, ("autoscaling", "v2"): 30, ("flowcontrol.apiserver.k8s.io", "v1"): 21,
}  # fmt: skip
VERSION_PRIORITY = 15
CUSTOM_PRIORITIES = (1000, 100)


def _wanted(group: str, version: str, priorities: tuple[int, int], mark: str) -> Object:
    spec: dict[str, Any] = {"version": version, "groupPriorityMinimum": priorities[0], "versionPriority": priorities[1]}
    if group:
        spec["group"] = group
    return {
        "apiVersion": APISERVICES.api_version,
        "kind": APISERVICES.kind,
        "metadata": {"name": f"{version}.{group}", "labels": {MANAGED: mark}},
        "spec": spec,
    }


def built_in() -> dict[str, Object]:
    """By name."""
    group_versions = {(row.group, row.version) for row in ROWS if row.group in GROUP_PRIORITIES}
    found = {}
    for group, version in sorted(group_versions):
        priorities = (GROUP_PRIORITIES[group], VERSION_PRIORITIES.get((group, version), VERSION_PRIORITY))
        found[f"{version}.{group}"] = _wanted(group, version, priorities, ON_START)
    return found


class Registration:
    """`start` after the custom resources are served; the rest happens by itself."""

    def __init__(self, lookup: Lookup, client: Client) -> None:
        self._lookup, self._client = lookup, client
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._missing = built_in()

    async def start(self) -> asyncio.Task[None]:
        """Registers what is built in, where nothing keeps it from that; the task goes on with it and with the rest."""
        self._lookup.subscribe(CUSTOMRESOURCEDEFINITIONS, lambda old, new: self._changed.set())
        self._lookup.subscribe(APISERVICES, self._api_service_changed)
        agrees = await self._try()
        self._task = asyncio.get_running_loop().create_task(self._follow(agrees=agrees))
        return self._task

    def fault(self) -> str | None:
        return f"not registered yet: {', '.join(self._missing)}" if self._missing else None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _api_service_changed(self, old: Object | None, new: Object | None) -> None:
        if _mark(old) == ALWAYS or _mark(new) == ALWAYS:
            self._changed.set()

    async def _follow(self, *, agrees: bool) -> None:
        while True:
            if agrees:
                await self._changed.wait()
            else:
                await asyncio.sleep(RETRY_S)
            agrees = await self._try()

    async def _try(self) -> bool:
        self._changed.clear()
        try:
            await self._agree(self._missing | self._custom())
        except (AlreadyExists, Conflict, NotFound):  # another server was first: what it wrote comes as a change
            return False
        except (ApiError, OSError) as error:
            log.warning("API services not registered", extra={"error": str(error)})
            return False
        self._missing = {}
        return True

    def _custom(self) -> dict[str, Object]:
        found: dict[str, Object] = {}
        for definition in self._lookup.list(CUSTOMRESOURCEDEFINITIONS):
            spec = definition["spec"]
            for version in spec.get("versions") or () if names.is_served(definition) else ():
                if version.get("served"):
                    made = _wanted(spec["group"], version["name"], CUSTOM_PRIORITIES, ALWAYS)
                    found[made["metadata"]["name"]] = made
        return found

    async def _agree(self, wanted: dict[str, Object]) -> None:
        for name, want in wanted.items():
            have = self._lookup.get(APISERVICES, "", name)
            if have is None:
                await self._client.create(APISERVICES, want)
            elif _mark(have) == _mark(want) and have.get("spec") != want["spec"]:
                await self._client.update(APISERVICES, {**have, "spec": want["spec"]})
        for have in list(self._lookup.list(APISERVICES)):
            if _mark(have) == ALWAYS and meta.name(have) not in wanted:
                await self._client.delete(APISERVICES, meta.name(have))


def _mark(obj: Object | None) -> str:
    return str(((obj or {}).get("metadata") or {}).get("labels", {}).get(MANAGED, ""))
