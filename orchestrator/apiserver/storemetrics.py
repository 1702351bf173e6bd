"""What is stored and watched, under upstream's names: objects, events of the store, its size, watches.

All is read off the caches when it is asked for. Source: k8s.io/apiserver storage/etcd3/metrics, endpoints/metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from orchestrator.apiserver.metrics import family
from orchestrator.apiserver.resourcecache import ResourceCache
from orchestrator.apiserver.watchcache import WatchCache

_SCOPES = {"namespace": "namespace", "name": "resource"}  # of a watch's bucket; all others are of the cluster


class StoreMetrics:
    """`size_bytes` is that of the store's file, None where it has none here."""

    def __init__(self, cache: WatchCache, size_bytes: Callable[[], int] | None) -> None:
        self._cache = cache
        self._size_bytes = size_bytes

    def lines(self) -> Iterator[str]:
        caches = sorted(self._cache.caches(), key=lambda one: one.resource.group_resource)
        objects = [(f'resource="{one.resource.group_resource}"', len(one.entries)) for one in caches]
        yield from family("apiserver_storage_objects", "gauge", "Stored objects.", objects)
        objects = [(_resource(one), len(one.entries)) for one in caches]
        yield from family("apiserver_resource_objects", "gauge", "Stored objects.", objects)
        events = [(_resource(one), one.events_applied) for one in caches if one.events_applied]
        name = "apiserver_storage_events_received_total"
        yield from family(name, "counter", "Events of the store.", events)
        if self._size_bytes is not None:
            size = [('storage_cluster_id="sqlite"', self._size_bytes())]
            yield from family("apiserver_storage_size_bytes", "gauge", "Size of the store's file.", size)
        watches: Counter[str] = Counter()
        for one in caches:
            for observer in one.observers():
                scope = _SCOPES.get(observer.bucket[0], "cluster")
                labels = f'component="apiserver",{_resource(one)},scope="{scope}",subresource="",verb="WATCH"'
                watches[f'{labels},version="{one.resource.version}"'] += 1
        yield from family("apiserver_longrunning_requests", "gauge", "Watches that go on.", watches.items())


def _resource(cache: ResourceCache) -> str:
    return f'group="{cache.resource.group}",resource="{cache.resource.plural}"'
