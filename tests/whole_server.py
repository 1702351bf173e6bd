"""A whole API server for tests of components: its own start-up, TLS, store on disk, authorization and admission.

    async with whole_server(tmp_path) as server:
        scheduler = server.client("system:kube-scheduler")

`server.kubeconfig("scheduler")` is a file for a client over the network, with the certificate of that component.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra import pki
from infra.topology import Topology
from orchestrator.api.wire import Identity
from orchestrator.apiserver.access import AccessConfig
from orchestrator.apiserver.main import Config, running
from orchestrator.apiserver.server import ApiServer
from orchestrator.client.client import Client
from orchestrator.client.inprocess import InProcessTransport


@dataclass(frozen=True)
class WholeServer:
    api: ApiServer
    port: int
    folder: Path

    @property
    def admin(self) -> Client:
        return self.api.client

    def client(self, user: str, *groups: str) -> Client:
        identity = Identity(user, ("system:authenticated", *groups))
        return Client(InProcessTransport(self.api.handle, identity), user.rpartition(":")[2])

    def kubeconfig(self, name: str) -> Path:
        """With the certificate `<name>.crt` of the PKI."""
        path, keys = self.folder / f"{name}.kubeconfig", self.folder / "pki"
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(keys / "ca.crt")}
        user = {"client-certificate": str(keys / f"{name}.crt"), "client-key": str(keys / f"{name}.key")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(folder: Path, port: int, access: Mapping[str, Any] | None = None, **more: Any) -> Config:
    """Of a server whose store is a file in `folder`, where `more` names no other; its keys are made there too."""
    keys = folder / "pki"
    pki.ensure(keys, Topology(name="test", workers=0))
    given: dict[str, Any] = {
        "advertise_address": "127.0.0.1",
        "store_path": str(folder / "store.db"),
        **more,
    }
    return Config(
        **given,
        bind_addresses=("127.0.0.1",),
        port=port,
        proxy_client_certificate_file=str(keys / "front-proxy-client.crt"),
        proxy_client_key_file=str(keys / "front-proxy-client.key"),
        requestheader_client_ca_file=str(keys / "front-proxy-ca.crt"),
        tls_certificate_file=str(keys / "apiserver.crt"),
        tls_key_file=str(keys / "apiserver.key"),
        client_ca_file=str(keys / "ca.crt"),
        access=AccessConfig(service_account_signing_key_file=str(keys / "sa.key"), **(access or {})),
    )


@asynccontextmanager
async def whole_server(
    folder: Path, etcd_servers: tuple[str, ...] = (), access: Mapping[str, Any] | None = None, **more: Any
) -> AsyncIterator[WholeServer]:
    """Its store is a file in `folder`, or etcd; `access` and `more` are further settings."""
    port = free_port()
    async with running(settings(folder, port, access, etcd_servers=etcd_servers, **more)) as api:
        yield WholeServer(api, port, folder)
