"""Kubeconfig: from a file to what a connection needs, the current context's cluster and user.

Data may be inline (base64) or in files, relative to the kubeconfig's own directory. Only certificates and tokens are
used; exec plugins and auth providers belong to users' tools. Errors: KubeconfigError names the file and what is
missing. Source: Kubernetes docs, "Organizing Cluster Access Using kubeconfig Files"; client-go clientcmd/api/v1.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct


class KubeconfigError(ValueError):
    """A kubeconfig that cannot be used."""


class Access(Struct, frozen=True, kw_only=True):
    """Where the API server is and how to be known there. Certificates and keys are PEM."""

    server: str
    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    token: str = ""
    token_file: Path | None = None  # re-read as it is rotated
    server_name: str = ""  # checked in place of the server's host name
    is_insecure: bool = False
    namespace: str = "default"


def load(path: str | Path, context_name: str = "") -> Access:
    """The access of a context, by default the current one."""
    path = Path(path)
    try:
        config = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise KubeconfigError(f"{path}: {error}") from error
    context_name = context_name or config.get("current-context") or ""
    context = _named(config.get("contexts"), context_name, "context", path)
    cluster = _named(config.get("clusters"), context.get("cluster", ""), "cluster", path)
    user = _named(config.get("users"), context.get("user", ""), "user", path) if context.get("user") else {}
    if not cluster.get("server"):
        raise KubeconfigError(f"{path}: cluster {context.get('cluster')!r} has no server")
    token_file = user.get("tokenFile")
    return Access(
        server=cluster["server"].rstrip("/"),
        ca=_content(cluster, "certificate-authority", path),
        certificate=_content(user, "client-certificate", path),
        key=_content(user, "client-key", path),
        token=user.get("token") or "",
        token_file=path.parent / token_file if token_file else None,
        server_name=cluster.get("tls-server-name") or "",
        is_insecure=bool(cluster.get("insecure-skip-tls-verify")),
        namespace=context.get("namespace") or "default",
    )


def _named(entries: Sequence[Mapping[str, Any]] | None, name: str, kind: str, path: Path) -> Mapping[str, Any]:
    for entry in entries or ():
        if entry.get("name") == name:
            found: Mapping[str, Any] = entry.get(kind) or {}
            return found
    raise KubeconfigError(f"{path}: no {kind} named {name!r}")


def _content(entry: Mapping[str, Any], field: str, path: Path) -> bytes | None:
    """Inline data wins over a file, as in client-go."""
    if data := entry.get(f"{field}-data"):
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise KubeconfigError(f"{path}: {field}-data is not base64") from error
    if file := entry.get(field):
        try:
            return (path.parent / file).read_bytes()
        except OSError as error:
            raise KubeconfigError(f"{path}: {field}: {error}") from error
    return None
