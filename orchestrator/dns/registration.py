"""Registration: the Service kube-dns, and this node's own EndpointSlices behind it.

Each node asks the DNS server on itself: the Service has no selector and `internalTrafficPolicy: Local`, and every
server keeps one EndpointSlice for each of its node's address families, which the proxy of that node alone uses. The
slices belong to the Node and go with it. Level-triggered: whatever differs from the wish is created or put right, and
looked at again when informers report a change. On an orderly end the endpoint becomes not ready.
Source: API reference, Service v1 and EndpointSlice v1; KEP-2086 internalTrafficPolicy.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import ENDPOINTSLICES, NODES, SERVICES, Resource
from orchestrator.client.client import Client
from orchestrator.client.informer import Informers
from orchestrator.client.workqueue import WorkQueue
from orchestrator.dns.follower import SERVICE_LABEL

log = logging.getLogger(__name__)

NAMESPACE = "kube-system"
SERVICE = "kube-dns"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
MANAGED_BY = "dns.sampan.io"
FAREWELL_S = 1.0  # how long an orderly end may wait for the API server


def wanted_service(cluster_ips: tuple[str, ...], port: int) -> Object:
    families = [f"IPv{ipaddress.ip_address(address).version}" for address in cluster_ips]
    ports = [
        {"name": name, "protocol": protocol, "port": 53, "targetPort": port}
        for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": SERVICE,
            "namespace": NAMESPACE,
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS", "kubernetes.io/cluster-service": "true"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ips[0],
            "clusterIPs": list(cluster_ips),
            "ipFamilies": families,
            "ipFamilyPolicy": "PreferDualStack",
            "internalTrafficPolicy": "Local",
            "ports": ports,
        },
    }


def wanted_slices(node: Object, addresses: tuple[str, ...], port: int, *, is_ready: bool) -> list[Object]:
    """One slice a family, with this node's addresses of that family as one endpoint."""
    slices = []
    for version, suffix in ((4, ""), (6, "-ipv6")):
        own = [address for address in addresses if ipaddress.ip_address(address).version == version]
        if own:
            slices.append(_slice(node, f"{SERVICE}-{meta.name(node)}{suffix}", version, own[0], port, is_ready))
    return slices


def _slice(node: Object, name: str, version: int, address: str, port: int, is_ready: bool) -> Object:
    owner = {"apiVersion": "v1", "kind": "Node", "name": meta.name(node), "uid": meta.uid(node)}
    conditions = {"ready": is_ready, "serving": is_ready, "terminating": False}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {SERVICE_LABEL: SERVICE, MANAGED_BY_LABEL: MANAGED_BY, "k8s-app": "kube-dns"},
            "ownerReferences": [owner],
        },
        "addressType": f"IPv{version}",
        "endpoints": [{"addresses": [address], "conditions": conditions, "nodeName": meta.name(node)}],
        "ports": [
            {"name": "dns", "protocol": "UDP", "port": port},
            {"name": "dns-tcp", "protocol": "TCP", "port": port},
        ],
    }


def differs(actual: object, wanted: object) -> bool:
    """Whether anything that is wanted is not so; what the server added beyond it does not count."""
    if isinstance(wanted, dict):
        return not isinstance(actual, dict) or any(differs(actual.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(actual, list) or len(actual) != len(wanted):
            return True
        return any(differs(one, other) for one, other in zip(actual, wanted, strict=True))
    return actual != wanted


def merged(actual: Object, wanted: Object) -> Object:
    """The object as it is with what is wanted put in; lists are replaced."""
    result = dict(actual)
    for key, value in wanted.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


class Registration:
    """Keeps Service and slices as wanted while it runs."""

    def __init__(
        self,
        client: Client,
        informers: Informers,
        node_name: str,
        addresses: tuple[str, ...],
        cluster_ips: tuple[str, ...],
        port: int,
    ) -> None:
        self._client = client
        self._node_name = node_name
        self._addresses = addresses
        self._cluster_ips = cluster_ips
        self._port = port
        self._queue = WorkQueue(delay_first_s=0.05, delay_max_s=5.0)
        self._nodes = informers.informer(NODES)
        self._services = informers.informer(SERVICES)
        self._slices = informers.informer(ENDPOINTSLICES)
        for informer in (self._nodes, self._services, self._slices):
            informer.add_handler(self._on_change)

    def _on_change(self, old: Object | None, new: Object | None) -> None:
        """Ours: the Node coming or being made anew, the Service, the slices; not each Node status."""
        obj = new or old or {}
        is_own_node = obj.get("kind") == "Node" and meta.name(obj) == self._node_name
        is_new_node = is_own_node and (old is None or new is None or meta.uid(old) != meta.uid(new))
        if is_new_node or (meta.namespace(obj) == NAMESPACE and meta.name(obj).startswith(SERVICE)):
            self._queue.add(self._node_name)

    async def run(self) -> None:
        for informer in (self._nodes, self._services, self._slices):
            await informer.wait_synced()
        self._queue.add(self._node_name)
        try:
            while (key := await self._queue.get()) is not None:
                await self._reconcile(key)
        finally:
            await self._say_farewell()

    async def _reconcile(self, key: str) -> None:
        try:
            await self._ensure(SERVICES, [wanted_service(self._cluster_ips, self._port)])
            node = self._nodes.cache.get(key)
            if node is not None:  # its informer wakes us when the kubelet registers it
                await self._ensure(ENDPOINTSLICES, wanted_slices(node, self._addresses, self._port, is_ready=True))
            self._queue.forget(key)
        except (status.ApiError, ConnectionError) as error:
            log.warning("kube-dns is not registered", extra={"node": key, "error": str(error)})
            self._queue.add_rate_limited(key)
        finally:
            self._queue.done(key)

    async def _ensure(self, resource: Resource, wishes: list[Object]) -> None:
        cache = (self._services if resource is SERVICES else self._slices).cache
        for wanted in wishes:
            actual = cache.get(meta.key(wanted))
            if actual is None:
                try:
                    await self._client.create(resource, wanted)
                    log.info("created", extra={"resource": resource.plural, "key": meta.key(wanted)})
                    continue
                except status.AlreadyExists:  # another node was first, or the cache is behind
                    actual = await self._client.get(resource, meta.name(wanted), meta.namespace(wanted))
            if differs(actual, wanted):
                await self._client.update(resource, merged(actual, wanted))
                log.info("corrected", extra={"resource": resource.plural, "key": meta.key(wanted)})

    async def _say_farewell(self) -> None:
        """Best effort: whoever starts this server again makes the endpoint ready again."""
        node = self._nodes.cache.get(self._node_name)
        if node is None:
            return
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._ensure(ENDPOINTSLICES, wanted_slices(node, self._addresses, self._port, is_ready=False))
        except (status.ApiError, ConnectionError, TimeoutError) as error:
            log.info("endpoint left as it was", extra={"node": self._node_name, "error": str(error)})
