"""What every namespace begins with: the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`.

Both are made when a namespace is, made again when deleted, and the ConfigMap's content is put back when changed: pods
mount it to trust the API server. A namespace that is being deleted gets neither.
Source: Concepts, "Service Accounts"; KEP-2907 root CA publisher.
"""

from __future__ import annotations

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import CONFIGMAPS, NAMESPACES, SERVICEACCOUNTS
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context
from orchestrator.controllers.pod_control import is_terminating_namespace

ROOT_CA = "kube-root-ca.crt"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


def is_open(namespace: Object | None) -> bool:
    """Whether the namespace takes new objects."""
    return namespace is not None and not meta.is_deleting(namespace)


class ServiceAccountController:
    """Keeps a ServiceAccount `default` in each namespace."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self.loop = Loop("serviceaccount", self.reconcile)
        self._namespaces = context.informers.informer(NAMESPACES)
        self._accounts = context.informers.informer(SERVICEACCOUNTS)
        self._namespaces.add_handler(lambda old, new: self.loop.queue.add(meta.name(new)) if new else None)
        self._accounts.add_handler(self._account_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _account_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None and meta.name(old) == "default":
            self.loop.queue.add(meta.namespace(old))

    async def reconcile(self, key: str) -> None:
        if not is_open(self._namespaces.cache.get(key)) or meta.join_key(key, "default") in self._accounts.cache:
            return
        try:
            await self._client.create(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": key}})
        except status.AlreadyExists:
            return
        except status.Forbidden as error:
            if not is_terminating_namespace(error):
                raise


class RootCaPublisher:
    """Keeps the cluster's CA in each namespace."""

    def __init__(self, context: Context, root_ca: str) -> None:
        self._client = context.client
        self._root_ca = root_ca
        self.loop = Loop("root-ca-certificate-publisher", self.reconcile)
        self._namespaces = context.informers.informer(NAMESPACES)
        self._published = context.informers.informer(CONFIGMAPS, field_selector=f"metadata.name={ROOT_CA}")
        self._namespaces.add_handler(lambda old, new: self.loop.queue.add(meta.name(new)) if new else None)
        self._published.add_handler(lambda old, new: self.loop.queue.add(meta.namespace(new or old or {})))

    async def run(self) -> None:
        await self.loop.run()

    async def reconcile(self, key: str) -> None:
        if not is_open(self._namespaces.cache.get(key)):
            return
        found = self._published.cache.get(meta.join_key(key, ROOT_CA))
        wanted = {"ca.crt": self._root_ca}
        if found is None:
            annotations = {"kubernetes.io/description": DESCRIPTION}
            made = {"metadata": {"name": ROOT_CA, "namespace": key, "annotations": annotations}, "data": wanted}
            try:
                await self._client.create(CONFIGMAPS, made)
            except status.AlreadyExists:
                return
            except status.Forbidden as error:
                if not is_terminating_namespace(error):
                    raise
        elif found.get("data") != wanted:
            await self._client.update(CONFIGMAPS, {**found, "data": wanted})
