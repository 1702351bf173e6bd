"""Which Services select a pod, without asking every Service of its namespace.

Services are indexed by the first pair of their selectors; a pod is looked up by each of its labels. With 10,000
Services in a namespace a pod event costs a few look-ups, not 10,000 matches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.client.cache import Cache
from orchestrator.controllers.fields import spec

INDEX = "selector"


def by_first_pair(service: Object) -> Iterable[str]:
    selector = spec(service).get("selector")
    if not selector:
        return ()
    name = min(selector)
    return (_value(meta.namespace(service), name, selector[name]),)


def selecting(cache: Cache, pod: Object) -> Iterator[Object]:
    labels = meta.labels(pod)
    for name, value in labels.items():
        for service in cache.by_index(INDEX, _value(meta.namespace(pod), name, value)):
            if selects(service, pod):
                yield service


def selects(service: Object, pod: Object) -> bool:
    labels = meta.labels(pod)
    selector: dict[str, str] = spec(service).get("selector") or {}
    return bool(selector) and all(labels.get(name) == value for name, value in selector.items())


def _value(namespace: str, name: str, value: str) -> str:
    return f"{namespace}/{name}={value}"
