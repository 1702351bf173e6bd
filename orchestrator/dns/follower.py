"""From informers to the zone: a Service is recomputed as a whole whenever it or one of its EndpointSlices changes.

Changes that arrive together are taken together after `GATHER_S`, so that a Service of many slices is computed once.
Every change of the zone drops the packed answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import ENDPOINTSLICES, NAMESPACES, SERVICES
from orchestrator.client.informer import Informers
from orchestrator.dns.records import service_names
from orchestrator.dns.zone import Zone

log = logging.getLogger(__name__)

GATHER_S = 0.01
SERVICE_LABEL = "kubernetes.io/service-name"
BY_SERVICE = "service"


def by_service(endpoint_slice: Object) -> Iterable[str]:
    """The key of the Service that an EndpointSlice belongs to."""
    service = meta.labels(endpoint_slice).get(SERVICE_LABEL)
    return (meta.join_key(meta.namespace(endpoint_slice), service),) if service else ()


class ZoneFollower:
    """Keeps a zone equal to what the informers see."""

    def __init__(self, zone: Zone, informers: Informers, changed: Callable[[], None]) -> None:
        self._zone = zone
        self._changed = changed
        self._dirty: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._services = informers.informer(SERVICES)
        self._slices = informers.informer(ENDPOINTSLICES, indexers={BY_SERVICE: by_service})
        self._namespaces = informers.informer(NAMESPACES)
        self._services.add_handler(self._on_service)
        self._slices.add_handler(self._on_slice)
        self._namespaces.add_handler(self._on_namespace)

    async def wait_synced(self) -> None:
        """Returns when the zone holds everything that the informers first saw."""
        for informer in (self._services, self._slices, self._namespaces):
            await informer.wait_synced()
        self._flush()

    def _on_service(self, old: Object | None, new: Object | None) -> None:
        self._mark(meta.key(new or old or {}))

    def _on_slice(self, old: Object | None, new: Object | None) -> None:
        for endpoint_slice in (old, new):
            for service in by_service(endpoint_slice) if endpoint_slice else ():
                self._mark(service)

    def _on_namespace(self, old: Object | None, new: Object | None) -> None:
        if self._zone.set_namespace(meta.name(new or old or {}), exists=new is not None):
            self._changed()

    def _mark(self, service: str) -> None:
        self._dirty[service] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        dirty, self._dirty = self._dirty, {}
        has_changed = False
        for key in dirty:
            service = self._services.cache.get(key)
            slices = self._slices.cache.by_index(BY_SERVICE, key)
            try:
                names = service_names(service, slices, self._zone.domain) if service else {}
            except ValueError as error:  # of this Service alone: the others must not wait for its repair
                log.warning("service has no names", extra={"service": key, "error": str(error)})
                names = {}
            has_changed |= self._zone.put(key, names)
        if has_changed:
            self._changed()
