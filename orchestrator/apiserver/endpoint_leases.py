"""The endpoints of the Service `kubernetes`: all API servers that live, each by a lease that it renews.

A server that is ready writes its address under LEASES with a time to live, again every RENEW_EVERY_S, and each time
makes Endpoints and EndpointSlice name exactly those whose lease is there. One that ends takes its lease away first; one
that dies is named until its lease ends. Leases are no resource that anyone could ask for.
Source: k8s.io/kubernetes pkg/controlplane/reconcilers, lease.go; controller/kubernetesservice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import orjson

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import ENDPOINTS, ENDPOINTSLICES, Resource
from orchestrator.api.status import AlreadyExists, ApiError, Conflict, NotFound
from orchestrator.apiserver.lookup import Lookup
from orchestrator.client.client import Client
from orchestrator.store.interface import KeyExists, RevisionMismatch, Store, StoreError

log = logging.getLogger(__name__)

LEASES = "masterleases/"
RENEW_EVERY_S, LEASE_S = 10.0, 15.0
ATTEMPTS_MAX = 5
NAME, NAMESPACE = "kubernetes", "default"


def endpoints(addresses: Sequence[str], port: int) -> Object:
    """No subset where there is no address."""
    subset = {
        "addresses": [{"ip": address} for address in addresses],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    return {
        "apiVersion": ENDPOINTS.api_version,
        "kind": ENDPOINTS.kind,
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [subset] if addresses else [],
    }


def endpoint_slice(addresses: Sequence[str], port: int) -> Object:
    """Of IPv6 where all addresses are, else those of IPv4."""
    family = "IPv6" if addresses and all(":" in address for address in addresses) else "IPv4"
    shown = [address for address in addresses if (":" in address) is (family == "IPv6")]
    return {
        "apiVersion": ENDPOINTSLICES.api_version,
        "kind": ENDPOINTSLICES.kind,
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": family,
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in shown],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}] if addresses else [],
    }


class ServerEndpoints:
    """`address` and `port` are where clients reach this server."""

    def __init__(self, store: Store, client: Client, lookup: Lookup, address: str, port: int) -> None:
        self._store, self._client, self._lookup = store, client, lookup
        self._address, self._port = address, port

    async def run(self) -> None:
        """Renews until cancelled; start it once the server is ready."""
        while True:
            try:
                await self.renew()
            except (ApiError, StoreError, ConnectionError) as error:
                log.warning("endpoints of the API servers not renewed", extra={"cause": str(error)})
            await asyncio.sleep(RENEW_EVERY_S)

    async def renew(self) -> None:
        """This server lives. Errors: ApiError, StoreError."""
        await self._lease()
        addresses = await self._living()
        if addresses:  # there is at least this one; none is a fault of the store, and no reason to name nobody
            await self._name(addresses)

    async def leave(self) -> None:
        """This server ends, or has just begun and may have left a lease behind. Errors: ApiError, StoreError."""
        item = await self._store.get(self._key)
        if item is None:
            return
        try:
            await self._store.delete(item.key, expected=item.revision)
        except RevisionMismatch:
            return  # it ended by itself
        await self._name(await self._living())

    @property
    def _key(self) -> str:
        return f"{LEASES}{self._address}"

    async def _lease(self) -> None:
        """Writes the lease, again where it ended, or another wrote it, in between."""
        for _ in range(ATTEMPTS_MAX):
            item = await self._store.get(self._key)
            generation = orjson.loads(item.value)["metadata"]["generation"] + 1 if item is not None else 1
            lease = endpoints([self._address], self._port)
            lease["metadata"] = {"name": self._address, "generation": generation}
            value = orjson.dumps(lease)
            try:
                if item is None:
                    await self._store.create(self._key, value, ttl_s=LEASE_S)
                else:
                    await self._store.update(self._key, value, expected=item.revision, ttl_s=LEASE_S)
                return
            except (KeyExists, RevisionMismatch):
                continue
        log.error("another API server advertises the same address", extra={"address": self._address})

    async def _living(self) -> list[str]:
        return [item.key.removeprefix(LEASES) for item in (await self._store.range(LEASES)).items]

    async def _name(self, addresses: Sequence[str]) -> None:
        named = endpoints(addresses, self._port)
        await self._ensure(ENDPOINTS, named, "subsets")
        await self._ensure(ENDPOINTSLICES, endpoint_slice(addresses, self._port), "endpoints", "ports")

    async def _ensure(self, resource: Resource, want: Object, *fields: str) -> None:
        have = self._lookup.get(resource, NAMESPACE, NAME)
        try:
            if have is not None and have.get("addressType") != want.get("addressType"):
                await self._client.delete(resource, NAME, NAMESPACE)  # which cannot be changed
                have = None
            if have is None:
                await self._client.create(resource, want)
                return
            labels = {**meta.labels(have), **meta.labels(want)}
            if labels != meta.labels(have) or any((have.get(one) or []) != want[one] for one in fields):
                metadata = {**have["metadata"], "labels": labels}
                await self._client.update(
                    resource, {**have, "metadata": metadata, **{field: want[field] for field in fields}}
                )
        except (AlreadyExists, Conflict, NotFound):
            return  # another server writes the same; the next renewal looks again
