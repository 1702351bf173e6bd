"""What is served besides resources: discovery, the version, and what verifies our tokens, as paths of the documents.

Each has a document of its own in version 3, by its path; in version 2 all are in the one document.
Source: what kube-apiserver v1.36 publishes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_JSON = ("application/json",)
_ENCODINGS = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
UNAUTHORIZED = {"401": {"description": "Unauthorized"}}


class Root(Struct, frozen=True):
    """One path; `shows` names the definition of its answer, "" where that is text."""

    path: str
    tag: str
    operation: str
    description: str
    shows: str = ""
    media_types: tuple[str, ...] = _JSON

    def path_item(self, version: int) -> dict[str, Any]:
        place = "#/components/schemas/" if version == 3 else "#/definitions/"
        schema = {"$ref": place + self.shows} if self.shows else {"type": "string"}
        operation: dict[str, Any] = {
            "tags": [self.tag],
            "description": self.description,
            "operationId": self.operation,
        }
        if version == 3:
            content = {one: {"schema": schema} for one in self.media_types}
            answers = {"200": {"description": "OK", "content": content}, **UNAUTHORIZED}
            return {"get": {**operation, "responses": answers}}
        if self.shows:
            operation["consumes"] = list(self.media_types)
        operation |= {"produces": list(self.media_types), "schemes": ["https"]}
        return {"get": {**operation, "responses": {"200": {"description": "OK", "schema": schema}, **UNAUTHORIZED}}}


_FIXED = (
    Root(
        "/.well-known/openid-configuration",
        "WellKnown",
        "getServiceAccountIssuerOpenIDConfiguration",
        "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
    ),
    Root(
        "/openid/v1/jwks",
        "openid",
        "getServiceAccountIssuerOpenIDKeyset",
        "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
        media_types=("application/jwk-set+json",),
    ),
    Root(
        "/version",
        "version",
        "getCodeVersion",
        "get the version information for this server",
        "io.k8s.apimachinery.pkg.version.Info",
    ),
    Root(
        "/api",
        "core",
        "getCoreAPIVersions",
        "get available API versions",
        f"{_META}APIVersions",
        _ENCODINGS,
    ),
    Root("/apis", "apis", "getAPIVersions", "get available API versions", f"{_META}APIGroupList", _ENCODINGS),
)


def roots(groups: Iterable[str]) -> dict[str, Root]:
    """By path; `groups` are the built-in ones, which have a document each."""
    found = {one.path: one for one in _FIXED}
    for group in groups:
        if group:
            name = _camel(group)
            tag = name[0].lower() + name[1:]
            words = "get information of a group"
            root = Root(f"/apis/{group}", tag, f"get{name}APIGroup", words, f"{_META}APIGroup", _ENCODINGS)
            found[root.path] = root
    return found


def group_version(group: str, version: str) -> Root:
    """The list of a group version's resources; it is in that version's document."""
    path = f"/apis/{group}/{version}" if group else f"/api/{version}"
    name = _camel(group) if group else "Core"
    tag = f"{name[0].lower()}{name[1:]}_{version}"
    operation = f"get{name}{version[0].upper()}{version[1:]}APIResources"
    return Root(path, tag, operation, "get available resources", f"{_META}APIResourceList", _ENCODINGS)


def _camel(group: str) -> str:
    """`admissionregistration.k8s.io` → Admissionregistration, `flowcontrol.apiserver.k8s.io` → FlowcontrolApiserver."""
    return "".join(part[0].upper() + part[1:] for part in group.removesuffix(".k8s.io").split("."))
