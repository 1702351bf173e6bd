"""A group version that another server serves: what its APIService says, how its server is reached and told who asks.

Headers name the caller; the other server believes them from whoever shows the front proxy's certificate.
Source: apiregistration.k8s.io/v1; Kubernetes docs, "Configure the Aggregation Layer"; client-go transport, auth proxy.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from urllib.parse import quote

from msgspec import Struct

from orchestrator.api import conditions, meta
from orchestrator.api.kinds.apiservices import AVAILABLE
from orchestrator.api.meta import Object
from orchestrator.api.wire import Identity
from orchestrator.apiserver import services
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.streams.backend import Target

USER, UID, GROUP, EXTRA = "X-Remote-User", "X-Remote-Uid", "X-Remote-Group", "X-Remote-Extra-"
CLAIMS = "x-remote-"  # what a caller says of this kind is dropped
_TOKEN_MARKS = "!#$&'*+-.^_`|~"  # that a header's name may have besides letters and digits


class Remote(Struct, frozen=True):
    """`is_available` is what the APIService's status says; `group_priority` and `priority` order discovery."""

    name: str
    group: str
    version: str
    namespace: str
    service: str
    port: int
    ca_bundle: str
    is_insecure: bool
    group_priority: int
    priority: int
    is_available: bool

    @staticmethod
    def of(api_service: Object) -> Remote | None:
        """None for what this server serves itself."""
        spec = api_service.get("spec") or {}
        service = spec.get("service")
        if service is None:
            return None
        return Remote(
            name=meta.name(api_service),
            group=spec.get("group") or "",
            version=spec.get("version") or "",
            namespace=service.get("namespace") or "",
            service=service.get("name") or "",
            port=service.get("port") or 443,
            ca_bundle=spec.get("caBundle") or "",
            is_insecure=bool(spec.get("insecureSkipTLSVerify")),
            group_priority=spec.get("groupPriorityMinimum") or 0,
            priority=spec.get("versionPriority") or 0,
            is_available=conditions.is_true(api_service, AVAILABLE),
        )

    @property
    def root(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def server_name(self) -> str:
        return f"{self.service}.{self.namespace}.svc"


class Connections:
    """Targets of remotes, with the front proxy's certificate where there is one."""

    def __init__(self, lookup: Lookup, certificate_file: str, key_file: str) -> None:
        self._lookup, self._certificate, self._key = lookup, certificate_file, key_file
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}

    def target(self, remote: Remote, *, verified: bool = True) -> Target:
        """Errors: services.NoAddress, services.NoAuthorities."""
        host = services.address_of(self._lookup, remote.namespace, remote.service, remote.port)
        insecure = remote.is_insecure or not verified
        tls = self._context("" if insecure else remote.ca_bundle, insecure)
        return Target(host, remote.port, tls, remote.server_name)

    def _context(self, bundle: str, insecure: bool) -> ssl.SSLContext:
        found = self._contexts.get((bundle, insecure))
        if found is None:
            found = self._contexts[bundle, insecure] = self._made(bundle, insecure)
        return found

    def _made(self, bundle: str, insecure: bool) -> ssl.SSLContext:
        context = services.trusting(bundle)
        if insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self._certificate:
            context.load_cert_chain(self._certificate, self._key)
        return context


def claims(user: Identity) -> Iterator[tuple[str, str]]:
    """Who asks, as headers."""
    yield USER, user.name
    if user.uid:
        yield UID, user.uid
    for group in user.groups:
        yield GROUP, group
    for key, values in user.extra.items():
        for value in values:
            yield EXTRA + quote(key, safe=_TOKEN_MARKS), value
