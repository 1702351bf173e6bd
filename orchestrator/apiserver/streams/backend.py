"""The other end: where a node's kubelet is, and the TLS by which the two know each other.

A kubelet is reached at its node's InternalIP and the port that its status names, and must show a certificate of the
cluster's CA for that address; the API server shows its own.
Errors: NotFound for a node that is not there, InternalError for one without an address.
Source: kube-apiserver `pkg/kubelet/client`, flags --kubelet-client-certificate and --kubelet-certificate-authority.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp
from msgspec import Struct

from orchestrator.api import status
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES
from orchestrator.apiserver import services
from orchestrator.apiserver.lookup import Lookup
from orchestrator.client.network import unverified_tls

KUBELET_PORT = 10250
CONNECT_TIMEOUT_S = 10
CHUNK_BYTES = 64 * 1024
ADDRESS_TYPES = ("InternalIP", "ExternalIP", "Hostname")  # in order of preference


class Target(Struct, frozen=True):
    """Where to connect. `tls` None is plain HTTP; `server_name` is whose certificate it must be, if not the host's."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    server_name: str | None = None

    @property
    def authority(self) -> str:
        return services.authority(self.host, self.port)

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


def client_tls(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """How the API server shows itself to kubelets, and whom it believes."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(ca))
    context.load_cert_chain(str(certificate), str(key))
    return context


def new_session() -> aiohttp.ClientSession:
    """For passing requests on as they are; to be made on the loop that uses it."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        read_bufsize=CHUNK_BYTES,
    )


class Backends:
    """Finds nodes' kubelets, and keeps connections to them."""

    def __init__(self, lookup: Lookup, tls: ssl.SSLContext) -> None:
        self._lookup, self._tls = lookup, tls
        # Whoever asks for https of a pod or service gets what is there: such certificates are nobody's to judge.
        self.unverified_tls = unverified_tls()
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """Made on first use, on the loop that uses it."""
        if self._session is None:
            self._session = new_session()
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def kubelet(self, node_name: str) -> Target:
        node = self._lookup.get(NODES, "", node_name)
        if node is None:
            raise status.not_found("", "nodes", node_name)
        host = address_of(node)
        if not host:
            raise status.InternalError(f"Internal error occurred: no preferred addresses found for node {node_name!r}")
        return Target(host, port_of(node), self._tls)


def address_of(node: Object) -> str:
    """Of the first preferred type, IPv4 or IPv6 as the node puts it first; "" without any."""
    addresses = (node.get("status") or {}).get("addresses") or ()
    for kind in ADDRESS_TYPES:
        for entry in addresses:
            if entry.get("type") == kind and entry.get("address"):
                return str(entry["address"])
    return ""


def port_of(node: Object) -> int:
    endpoint = ((node.get("status") or {}).get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
    return int(endpoint.get("Port") or KUBELET_PORT)
