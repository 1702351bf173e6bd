"""Discovery: which resources an API server serves now, built in and custom.

One request for the groups and one for each group version. A group version that does not answer (an aggregated server
that is away) is reported apart: whoever must act on *all* resources has to know that it does not know them all.
Source: Kubernetes API concepts, "API group discovery".
"""

from __future__ import annotations

import asyncio

import orjson
from msgspec import Struct, field

from orchestrator.api import status
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource, Subresource
from orchestrator.api.wire import Request
from orchestrator.client.client import Client, error_of, read


class Discovered(Struct, frozen=True):
    resources: list[Resource]
    failures: dict[str, str] = field(default_factory=dict)  # group version → why


async def discover(client: Client) -> Discovered:
    """Every resource, of each group in its preferred version. Raises if not even the groups can be had."""
    groups = await _fetch(client, "/apis")
    paths = {"v1": "/api/v1"}
    for group in groups.get("groups") or ():
        version = (group.get("preferredVersion") or group["versions"][0])["groupVersion"]
        paths[version] = f"/apis/{version}"
    answers = await asyncio.gather(*(_fetch(client, path) for path in paths.values()), return_exceptions=True)
    found = Discovered([])
    for group_version, answer in zip(paths, answers, strict=True):
        if isinstance(answer, (status.ApiError, ConnectionError)):
            found.failures[group_version] = str(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found.resources.extend(_resources(group_version, answer))
    return found


async def served(client: Client, group: str, version: str) -> list[Resource]:
    """The resources of one group version; none where there is no such."""
    path = f"/apis/{group}/{version}" if group else f"/api/{version}"
    try:
        return _resources(f"{group}/{version}" if group else version, await _fetch(client, path))
    except status.NotFound:
        return []


async def described(client: Client, group: str, version: str) -> Object:
    """The OpenAPI document (v3) of one group version; empty where there is no such."""
    try:
        return await _fetch(client, f"/openapi/v3/apis/{group}/{version}" if group else f"/openapi/v3/api/{version}")
    except status.NotFound:
        return {}


async def _fetch(client: Client, path: str) -> Object:
    response = await client.request(Request("GET", path, [], {"accept": "application/json"}))
    if response.status >= 400:
        raise await error_of(response)
    body = response.body if isinstance(response.body, bytes) else await read(response.body)
    found: Object = orjson.loads(body)
    return found


def _resources(group_version: str, answer: Object) -> list[Resource]:
    group, _, version = group_version.rpartition("/")
    entries = answer.get("resources") or []
    subresources: dict[str, list[Subresource]] = {}
    for entry in entries:
        parent, slash, name = entry["name"].partition("/")
        if slash:
            subresources.setdefault(parent, []).append(Subresource(name, tuple(entry.get("verbs") or ())))
    return [
        Resource(
            group,
            version,
            entry["name"],
            entry["kind"],
            entry["namespaced"],
            verbs=tuple(entry.get("verbs") or ()),
            subresources=tuple(subresources.get(entry["name"], ())),
            singular_name=entry.get("singularName") or "",
        )
        for entry in entries
        if "/" not in entry["name"]
    ]
