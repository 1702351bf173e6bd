"""DefaultStorageClass and DefaultIngressClass: an object that names no class gets the one marked as default.

Several may be marked: the newest counts, of equally old ones the first by name.
Source: Kubernetes docs, Admission Control, DefaultStorageClass and DefaultIngressClass.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import INGRESSCLASSES, STORAGECLASSES, Resource
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes

STORAGE_MARKS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
STORAGE_ANNOTATION = "volume.beta.kubernetes.io/storage-class"  # the old way to name a class
INGRESS_MARKS = ("ingressclass.kubernetes.io/is-default-class",)
INGRESS_ANNOTATION = "kubernetes.io/ingress.class"


class DefaultStorageClass:
    operations = ("CREATE",)
    resources = ("persistentvolumeclaims",)

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def mutate(self, attributes: Attributes) -> None:
        _fill(attributes, "storageClassName", STORAGE_ANNOTATION, self._lookup, STORAGECLASSES, STORAGE_MARKS)


class DefaultIngressClass:
    operations = ("CREATE",)
    resources = ("ingresses.networking.k8s.io",)

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def mutate(self, attributes: Attributes) -> None:
        _fill(attributes, "ingressClassName", INGRESS_ANNOTATION, self._lookup, INGRESSCLASSES, INGRESS_MARKS)


def _fill(
    attributes: Attributes, field: str, annotation: str, lookup: Lookup, classes: Resource, marks: tuple[str, ...]
) -> None:
    obj = attributes.object
    if obj is None or annotation in meta.annotations(obj):
        return
    spec = obj.setdefault("spec", {})
    if spec.get(field) is None and (default := default_class(lookup.list(classes), marks)) is not None:
        spec[field] = meta.name(default)


def default_class(classes: Iterable[Object], marks: tuple[str, ...]) -> Object | None:
    marked = [one for one in classes if any(meta.annotations(one).get(mark) == "true" for mark in marks)]
    marked.sort(key=meta.name)
    return max(marked, key=lambda one: meta.metadata(one).get("creationTimestamp") or "", default=None)
