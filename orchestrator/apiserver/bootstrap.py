"""What a server writes when it starts: the objects that every cluster has before anyone asks.

The four namespaces, the ServiceCIDR, the day since which the use of tokens in Secrets is seen, the Service `kubernetes`
with the first address of the service range, and the Endpoints and EndpointSlice behind it, which name the address that
this server advertises. Objects that are there stay, except that the endpoints follow the advertised address.
Source: upstream controlplane, "kubernetes" service reconciler and legacytokentracking.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Mapping, Sequence
from datetime import date

import orjson
from msgspec import Struct

from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import (
    CONFIGMAPS,
    NAMESPACES,
    SERVICECIDRS,
    SERVICES,
    Resource,
)
from orchestrator.api.status import AlreadyExists, Conflict
from orchestrator.apiserver.authn.requestheader import RequestHeaders
from orchestrator.apiserver.lookup import Lookup
from orchestrator.client.client import Client

log = logging.getLogger(__name__)

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
NAME = "kubernetes"
RANGE_MANAGER = "kubernetes-service-cidr-controller"
HTTPS = 443
TOKEN_TRACKING = "kube-apiserver-legacy-service-account-token-tracking"


class Advertised(Struct, frozen=True, kw_only=True):
    address: str
    port: int
    service_ranges: Sequence[str]


def service_address(service_range: str) -> str:
    """The first address of a range: 10.96.0.1 of 10.96.0.0/16."""
    return str(ipaddress.ip_network(service_range)[1])


def service(advertised: Advertised) -> Object:
    address = service_address(advertised.service_ranges[0])
    family = "IPv6" if ":" in address else "IPv4"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": NAME,
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": [family],
            "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": HTTPS, "protocol": "TCP", "targetPort": advertised.port}],
        },
    }


def service_cidr(advertised: Advertised) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": NAME},
        "spec": {"cidrs": list(advertised.service_ranges)},
    }


def requestheader(authority: str, settings: RequestHeaders) -> dict[str, str]:
    """How an aggregated server tells this one from others, and which headers then say who asks. `authority`: PEM."""
    lists = {
        "requestheader-allowed-names": settings.allowed_names,
        "requestheader-extra-headers-prefix": settings.extra_headers_prefix,
        "requestheader-group-headers": settings.group_headers,
        "requestheader-uid-headers": settings.uid_headers,
        "requestheader-username-headers": settings.username_headers,
    }
    shown = {name: orjson.dumps(values).decode() for name, values in lists.items()}
    return {"requestheader-client-ca-file": authority, **shown}


def token_tracking(now: float) -> Object:
    """By which the cleaner of tokens that lie in Secrets knows since when their use is seen."""
    place = {"name": TOKEN_TRACKING, "namespace": "kube-system"}
    return {"metadata": place, "data": {"since": meta.format_time(now).partition("T")[0]}}


def is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


async def bootstrap(
    client: Client, lookup: Lookup, advertised: Advertised, trust: Mapping[str, str], now: float
) -> None:
    """`trust`: data of the ConfigMap by which aggregated servers know whom to believe."""
    async with asyncio.TaskGroup() as tasks:
        for name in SYSTEM_NAMESPACES:
            tasks.create_task(_ensure(client, lookup, NAMESPACES, {"metadata": {"name": name}}))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_ensure(client, lookup, SERVICECIDRS, service_cidr(advertised)))
        tasks.create_task(_ensure(client, lookup, SERVICES, service(advertised)))
        place = {"name": "extension-apiserver-authentication", "namespace": "kube-system"}
        authentication = {"metadata": place, "data": dict(trust)}
        tasks.create_task(_ensure(client, lookup, CONFIGMAPS, authentication, "data"))
        have = lookup.get(CONFIGMAPS, "kube-system", TOKEN_TRACKING) or {}
        if not is_day((have.get("data") or {}).get("since", "")):
            tasks.create_task(_ensure(client, lookup, CONFIGMAPS, token_tracking(now), "data"))
    await _ready_range(client, lookup, advertised, now)


async def _ready_range(client: Client, lookup: Lookup, advertised: Advertised, now: float) -> None:
    """The ranges of this server's settings are in use: their ServiceCIDR is Ready, unless somebody said otherwise."""
    found = lookup.get(SERVICECIDRS, "", NAME)
    wanted = service_cidr(advertised)
    if found is None or found["spec"] != wanted["spec"] or meta.is_deleting(found):
        return
    if conditions.find((found.get("status") or {}).get("conditions"), "Ready") is not None:
        return
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "",
        "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": meta.format_time(now),
    }
    status = {**wanted, "status": {"conditions": [ready]}}
    await client.patch(
        SERVICECIDRS, NAME, "", status, "apply", subresource="status", field_manager=RANGE_MANAGER, force=True
    )


async def _ensure(client: Client, lookup: Lookup, resource: Resource, want: Object, *kept_true: str) -> None:
    """Creates `want` where it is missing; where it is there, its fields `kept_true` are made to agree."""
    want = {"apiVersion": resource.api_version, "kind": resource.kind, **want}
    have = lookup.get(resource, meta.namespace(want), meta.name(want))
    try:
        if have is None:
            await client.create(resource, want)
        elif any(have.get(field) != want[field] for field in kept_true):
            await client.update(resource, {**have, **{field: want[field] for field in kept_true}})
    except (AlreadyExists, Conflict):
        return  # another server is starting too
