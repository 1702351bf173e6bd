"""The authentication chain: the first credential that is known decides who asks.

Order: an in-process identity (set by a trusted transport), a front proxy's headers, the client certificate, the bearer
token (static file, bootstrap, OpenID Connect, service account). A token that is presented and not accepted is an error
even where the request could have been anonymous, and so is a certificate.
Without credentials only health and version are served, as system:anonymous.
Everyone but the anonymous user is in system:authenticated. Errors: Unauthorized, without saying why.
Source: Kubernetes docs, "Authenticating".
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.api.clock import Clock
from orchestrator.api.status import Unauthorized
from orchestrator.api.wire import Identity, Request
from orchestrator.apiserver.authn.bootstraptoken import BootstrapTokens
from orchestrator.apiserver.authn.clientcert import ClientCertificates
from orchestrator.apiserver.authn.jwt import TokenError
from orchestrator.apiserver.authn.oidc import OidcTokens
from orchestrator.apiserver.authn.requestheader import FrontProxies
from orchestrator.apiserver.authn.serviceaccount import ServiceAccountTokens
from orchestrator.apiserver.authn.tokenfile import TokenFile

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS_USER = "system:anonymous"
ANONYMOUS = Identity(ANONYMOUS_USER, (UNAUTHENTICATED,))
ANONYMOUS_PATHS = ("/healthz", "/livez", "/readyz", "/version")
KEPT_S = 1.0  # what was found for a credential is believed so much longer; kube-apiserver keeps tokens for 10 s
KEPT_MAX = 1024

log = logging.getLogger(__name__)


class TokenAnswer(Struct, frozen=True):
    """An accepted token, and the audiences of those asked for that it is good for."""

    identity: Identity
    audiences: tuple[str, ...]


class Authenticator(Struct, frozen=True, kw_only=True):
    certificates: ClientCertificates
    service_accounts: ServiceAccountTokens
    bootstrap_tokens: BootstrapTokens | None = None
    token_file: TokenFile | None = None
    oidc: OidcTokens | None = None
    proxies: FrontProxies | None = None
    clock: Clock
    _kept: dict[tuple[str | None, bytes | None], tuple[Identity, float]] = field(default_factory=dict)

    def authenticate(self, request: Request) -> Identity:
        """Who asks; the groups include system:authenticated."""
        if request.identity is not None:
            return authenticated(request.identity)
        if self.proxies is not None and (identity := self.proxies.identity(request)) is not None:
            return authenticated(identity)
        credential = (request.headers.get("authorization"), request.peer_certificate)
        if credential == (None, None):
            return self._known(request)
        now = self.clock.now()
        if (found := self._kept.get(credential)) is not None and now < found[1]:
            return found[0]
        identity = self._known(request)
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[credential] = (identity, now + KEPT_S)
        return identity

    def _known(self, request: Request) -> Identity:
        if (identity := self.certificates.identity(request)) is not None:
            return authenticated(identity)
        token = bearer_token(request)
        if token:
            try:
                return self.token(token).identity
            except TokenError as error:
                log.info("token refused", extra={"path": request.path, "cause": str(error)})
                raise Unauthorized from error
        if request.peer_certificate is None and is_open(request.path):
            return ANONYMOUS
        raise Unauthorized

    def token(self, token: str, audiences: Sequence[str] = ()) -> TokenAnswer:
        """The identity behind a bearer token; TokenError says why there is none. Static and bootstrap tokens are
        meant for this server, so they have its audiences."""
        own = self.service_accounts.settings.audiences
        shared = tuple(audience for audience in audiences if audience in own) if audiences else own
        for known in (self.token_file, self.bootstrap_tokens):
            identity = known.identity(token) if known is not None and shared else None
            if identity is not None:
                return TokenAnswer(authenticated(identity), shared)
        if self.oidc is not None and shared and self.oidc.is_mine(token):
            return TokenAnswer(authenticated(self.oidc.identity(token)), shared)
        identity, shared = self.service_accounts.identity(token, audiences)
        return TokenAnswer(authenticated(identity), shared)


def authenticated(identity: Identity) -> Identity:
    if {AUTHENTICATED, UNAUTHENTICATED} & {*identity.groups} or identity.name == ANONYMOUS_USER:
        return identity
    return replace(identity, groups=(*identity.groups, AUTHENTICATED))


def bearer_token(request: Request) -> str:
    """The token of `Authorization: Bearer …`, "" without one."""
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def is_open(path: str) -> bool:
    """Whether the path is health or version, the individual health checks included (`/livez/ping`)."""
    return any(path == open_path or path.startswith(f"{open_path}/") for open_path in ANONYMOUS_PATHS)
