"""Discovery: which groups, versions and resources there are, computed from the table.

Two ways to ask: a document a level (`/api`, `/apis`, `/apis/GROUP`, `/apis/GROUP/VERSION`), or everything at once
(aggregated discovery, v2), where the client accepts it at `/api` and `/apis`. Answers carry an ETag and are rebuilt
when rows change. Source: Kubernetes docs, "API Discovery"; KEP-3352.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Any

import orjson

from orchestrator.api.resources import Resource, ResourceTable, Subresource
from orchestrator.api.status import NotAcceptable, NotFound
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver import encoding
from orchestrator.apiserver.aggregation.aggregator import Aggregator
from orchestrator.apiserver.aggregation.remote import Remote
from orchestrator.apiserver.asked import NOT_SERVED
from orchestrator.apiserver.health import TEXT_HEADERS
from orchestrator.apiserver.negotiation import DISCOVERY, ENCODINGS, OBJECT, Accepted, accepted, check_route
from orchestrator.apiserver.protobuf.encoding import encode


class Discovery:
    """`aggregator` knows of the groups that other servers serve; their own documents come from them."""

    def __init__(self, table: ResourceTable, aggregator: Aggregator | None = None, address: str = "") -> None:
        """`address` is where clients reach this server, host and port."""
        self._table = table
        self._address = address
        self._aggregator = aggregator

    async def core(self, request: Request) -> Response:
        """`/api`, `/api/v1`."""
        check_route(request.headers.get("accept", ""), ENCODINGS)
        parts = request.path.strip("/").split("/")
        if len(parts) == 1:
            addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}]
            found = {"kind": "APIVersions", "versions": self._versions(""), "serverAddressByClientCIDRs": addresses}
            return self._root(request, ("",), found)
        return self._resources(request, "", parts[1]) if len(parts) == 2 else self._missing("", parts[1])

    async def groups(self, request: Request) -> Response:
        """`/apis`, `/apis/GROUP`, `/apis/GROUP/VERSION`."""
        parts = request.path.strip("/").split("/")
        elsewhere = [remote.group for remote in self._remotes()]
        names = list(dict.fromkeys(group for group in (*self._table.group_versions(), *elsewhere) if group))
        if len(parts) == 1:
            groups = [self._group(name) for name in names]
            return self._root(request, names, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        if parts[1] not in names:
            return page_not_found()
        if len(parts) == 2:
            return answer(request, {"kind": "APIGroup", "apiVersion": "v1", **self._group(parts[1])})
        if len(parts) == 3:
            return self._resources(request, parts[1], parts[2])
        return self._missing(parts[1], parts[2])

    def _missing(self, group: str, version: str) -> Response:
        """Of something that a version does not have."""
        if version in self._versions(group):
            raise NotFound(NOT_SERVED)
        return page_not_found()

    def _remotes(self) -> list[Remote]:
        return self._aggregator.remotes() if self._aggregator is not None else []

    def _versions(self, group: str) -> list[str]:
        elsewhere = [remote.version for remote in self._remotes() if remote.group == group]
        return list(dict.fromkeys((*self._table.group_versions().get(group, []), *elsewhere)))

    def _group(self, name: str) -> dict[str, Any]:
        versions = [{"groupVersion": f"{name}/{version}", "version": version} for version in self._versions(name)]
        return {"name": name, "versions": versions, "preferredVersion": versions[0]}

    def _root(self, request: Request, groups: Iterable[str], document: dict[str, Any]) -> Response:
        try:  # all at once, wherever in the list the client names it
            wanted = accepted(request.headers.get("accept") or encoding.JSON, (DISCOVERY,))
        except NotAcceptable:
            return answer(request, document)
        aggregated = {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"apidiscovery.k8s.io/{wanted.version}",
            "metadata": {},
            "items": [self._aggregated(group) for group in groups],
        }
        parameters = f";g=apidiscovery.k8s.io;v={wanted.version};as=APIGroupDiscoveryList"
        found = _answer(request, aggregated, wanted, parameters)
        found.headers["cache-control"] = "public"
        return found

    def _rows(self, group: str, version: str) -> list[Resource]:
        rows = [row for row in self._table if (row.group, row.version) == (group, version)]
        return sorted(rows, key=lambda row: row.plural)

    def _resources(self, request: Request, group: str, version: str) -> Response:
        if version not in self._versions(group):
            return page_not_found()
        if not any(row.is_custom for row in self._rows(group, version)):
            check_route(request.headers.get("accept", ""), ENCODINGS)
        resources: list[dict[str, Any]] = []
        for row in self._rows(group, version):
            resources.append(_resource(row))
            resources += [_subresource(row, sub) for sub in sorted(row.subresources, key=_name)]
        group_version = f"{group}/{version}" if group else version
        kind = {"kind": "APIResourceList", "apiVersion": "v1"} if group else {"kind": "APIResourceList"}
        return answer(request, {**kind, "groupVersion": group_version, "resources": resources})

    def _aggregated(self, group: str) -> dict[str, Any]:
        elsewhere = {remote.version: remote for remote in self._remotes() if remote.group == group}
        versions = []
        for version in self._versions(group):
            remote, is_current = elsewhere.get(version), True
            if remote is not None and self._aggregator is not None:
                resources, is_current = _of_list(self._aggregator.resources(remote), remote), remote.is_available
            else:
                resources = [_aggregated_resource(row) for row in self._rows(group, version)]
            freshness = "Current" if is_current else "Stale"
            versions.append({"version": version, "freshness": freshness, "resources": resources})
        return {"metadata": {"name": group} if group else {}, "versions": versions}


def _resource(row: Resource) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": row.plural,
        "singularName": row.singular,
        "namespaced": row.namespaced,
        "kind": row.kind,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        found["shortNames"] = list(row.short_names)
    if row.categories:
        found["categories"] = list(row.categories)
    if "watch" in row.verbs:
        found["storageVersionHash"] = _storage_version_hash(row)
    return found


def _storage_version_hash(row: Resource) -> str:
    """Names the version that objects are stored in: clients see when it changes, and rewrite what is stored."""
    group, _, version = (row.storage_group_version or row.api_version).rpartition("/")
    return base64.b64encode(hashlib.sha256(f"{group}/{version}/{row.kind}".encode()).digest()[:8]).decode()


def _subresource(row: Resource, sub: Subresource) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": f"{row.plural}/{sub.name}",
        "singularName": "",
        "namespaced": row.namespaced,
        "kind": sub.kind or row.kind,
        "verbs": sorted(sub.verbs),
    }
    if sub.group_version:
        found["group"], _, found["version"] = sub.group_version.rpartition("/")
    return found


def _response_kind(group_version: str, kind: str) -> dict[str, str]:
    group, _, version = group_version.rpartition("/")
    return {"group": group, "version": version, "kind": kind}


def _aggregated_resource(row: Resource) -> dict[str, Any]:
    found: dict[str, Any] = {
        "resource": row.plural,
        "responseKind": _response_kind(row.api_version, row.kind),
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": row.singular,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        found["shortNames"] = list(row.short_names)
    if row.categories:
        found["categories"] = list(row.categories)
    if row.subresources:
        found["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": _response_kind(sub.group_version or row.api_version, sub.kind or row.kind),
                "verbs": sorted(sub.verbs),
            }
            for sub in sorted(row.subresources, key=_name)
        ]
    return found


def _name(sub: Subresource) -> str:
    return sub.name


def _of_list(entries: Iterable[dict[str, Any]], remote: Remote) -> list[dict[str, Any]]:
    """The entries of another server's APIResourceList, in the form of aggregated discovery."""
    found: dict[str, dict[str, Any]] = {}
    entries = list(entries)
    for entry in entries:
        if "/" not in entry["name"]:
            found[entry["name"]] = {
                "resource": entry["name"],
                "responseKind": _kind_of(entry, remote),
                "scope": "Namespaced" if entry.get("namespaced") else "Cluster",
                "singularResource": entry.get("singularName") or "",
                "verbs": entry.get("verbs") or [],
                **{name: entry[name] for name in ("shortNames", "categories") if entry.get(name)},
            }
    for entry in entries:
        parent, slash, name = entry["name"].partition("/")
        if slash and parent in found:
            sub = {"subresource": name, "responseKind": _kind_of(entry, remote), "verbs": entry.get("verbs") or []}
            found[parent].setdefault("subresources", []).append(sub)
    return list(found.values())


def _kind_of(entry: dict[str, Any], remote: Remote) -> dict[str, str]:
    group, version = entry.get("group") or remote.group, entry.get("version") or remote.version
    return {"group": group, "version": version, "kind": entry.get("kind") or ""}


def answer(request: Request, document: dict[str, Any]) -> Response:
    """A document that is what the client asked for, in the encoding that it accepts."""
    return _answer(request, document, accepted(request.headers.get("accept", ""), (OBJECT,)))


def _answer(request: Request, document: dict[str, Any], wanted: Accepted, parameters: str = "") -> Response:
    """The document with an ETag; 304 where the client has it. `parameters` are those of its media type."""
    data = orjson.dumps(document)
    etag = f'"{hashlib.sha256(data).hexdigest().upper()}"'
    if request.headers.get("if-none-match") == etag:
        return Response(304, {"etag": etag}, b"")
    if wanted.media_type == encoding.YAML:
        data = encoding.to_yaml(data)
    elif wanted.media_type == encoding.PROTOBUF:
        data = encode(document)
    return Response(200, {"content-type": wanted.media_type + parameters, "etag": etag, "vary": "Accept"}, data)


def page_not_found() -> Response:
    """Of a path below which nothing is served: plain text, as Go's server has it."""
    return Response(404, dict(TEXT_HEADERS), b"404 page not found\n")
