"""Request headers: a front proxy, known by its certificate, says who asks.

The headers count only on a connection whose certificate was signed by the front proxies' own authority, and whose CN is
among the allowed names (any, where none is listed). That authority is not the one of clients: a certificate of its own
would otherwise let a proxy be anyone's user, or a user be a proxy. The headers are taken off the request once read, so
that nobody behind this server believes them.
Source: Kubernetes docs, "Authenticating Proxy"; k8s.io/apiserver authentication/request/headerrequest.
"""

from __future__ import annotations

from urllib.parse import unquote

from msgspec import Struct

from orchestrator.api.wire import Identity, Request
from orchestrator.apiserver.authn.clientcert import ClientCertificates


class RequestHeaders(Struct, frozen=True, kw_only=True):
    """kube-apiserver's --requestheader settings. Of names and uids the first header with a value counts, groups are
    those of all headers, what follows an extra prefix is a key."""

    allowed_names: tuple[str, ...] = ("front-proxy-client",)
    username_headers: tuple[str, ...] = ("X-Remote-User",)
    uid_headers: tuple[str, ...] = ("X-Remote-Uid",)
    group_headers: tuple[str, ...] = ("X-Remote-Group",)
    extra_headers_prefix: tuple[str, ...] = ("X-Remote-Extra-",)


class FrontProxies:
    """`certificates` accepts those of the front proxies' authority."""

    def __init__(self, certificates: ClientCertificates, settings: RequestHeaders) -> None:
        self._certificates = certificates
        self._allowed = frozenset(settings.allowed_names)
        self._names, self._uids, self._groups, self._prefixes = (
            tuple(name.strip().lower() for name in names)
            for names in (
                settings.username_headers,
                settings.uid_headers,
                settings.group_headers,
                settings.extra_headers_prefix,
            )
        )

    def identity(self, request: Request) -> Identity | None:
        """Who a front proxy says asks; None where it is none, or says nothing."""
        proxy = self._certificates.identity(request)
        if proxy is None or (self._allowed and proxy.name not in self._allowed):
            return None
        name = _first(request, self._names)
        if not name:
            return None
        groups = tuple(value for header in self._groups for value in request.values(header) if value)
        extra: dict[str, tuple[str, ...]] = {}
        for prefix in self._prefixes:
            for header in sorted(request.headers):
                if header.startswith(prefix):
                    key = unquote(header.removeprefix(prefix))
                    extra[key] = (*extra.get(key, ()), *request.values(header))
        identity = Identity(name, groups, _first(request, self._uids), extra)
        self._strip(request)
        return identity

    def _strip(self, request: Request) -> None:
        fixed = (*self._names, *self._uids, *self._groups)
        for header in [one for one in request.headers if one in fixed or one.startswith(self._prefixes)]:
            del request.headers[header]


def _first(request: Request, names: tuple[str, ...]) -> str:
    """Of several headers of one name the first counts, as Go reads them."""
    found = (next(iter(request.values(name)), "") for name in names)
    return next((value for value in found if value), "")
