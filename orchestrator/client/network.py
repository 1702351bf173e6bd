"""Transport over the network: HTTP/1.1 on TLS with connections kept alive, in the name of a certificate or a token.

One TLS context for the client's life (a context is most of a small component's memory). A watch or a followed log is a
stream without a deadline of its own; so that a peer that vanished is noticed, the kernel probes idle connections and
gives up after `SILENCE_MAX_S`. Errors: ConnectionError for whatever keeps an answer from coming.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from orchestrator.api.wire import Request, Response
from orchestrator.client.kubeconfig import Access

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 90  # of a request that is no stream; above the API server's own 60 s
PROBE_IDLE_S, PROBE_INTERVAL_S, PROBE_COUNT = 15, 5, 3
SILENCE_MAX_S = PROBE_IDLE_S + PROBE_INTERVAL_S * PROBE_COUNT
CONNECTIONS_MAX = 256
TOKEN_REREAD_S = 60
CHUNK_BYTES = 64 * 1024

_STREAMED = {("watch", "true"), ("watch", "1"), ("follow", "true"), ("follow", "1")}


class NetworkTransport:
    """Sends requests to one API server. The session is made on first use, on the loop that uses it."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._session: aiohttp.ClientSession | None = None
        self._tls = tls_context(access) if access.server.startswith("https:") else None
        self._token = access.token
        self._token_read_at = float("-inf")

    async def send(self, request: Request) -> Response:
        streamed = any(pair in _STREAMED for pair in request.query)
        timeout = aiohttp.ClientTimeout(total=None if streamed else ANSWER_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
        headers = dict(request.headers)
        if (token := self._current_token()) and "authorization" not in headers:
            headers["authorization"] = f"Bearer {token}"
        options: dict[str, Any] = {"server_hostname": self._access.server_name} if self._access.server_name else {}
        try:
            answer = await self._opened().request(
                request.method,
                self._url(request),
                data=request.body or None,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                **options,
            )
            found = {name.lower(): ", ".join(answer.headers.getall(name)) for name in answer.headers}  # Warning repeats
            if streamed and answer.status == 200:
                return Response(answer.status, found, _chunks(answer))
            async with answer:
                return Response(answer.status, found, await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            kind = ConnectionRefusedError if is_refused(error) else ConnectionError
            raise kind(f"{self._access.server}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=self._tls if self._tls is not None else True,
                limit=CONNECTIONS_MAX,
                keepalive_timeout=90,
                socket_factory=_probed_socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=True,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept-Encoding", "Content-Type"),
                read_bufsize=CHUNK_BYTES,
            )
        return self._session

    def _url(self, request: Request) -> URL:
        path = quote(request.path, safe="/:@!$&'()*+,;=~-._")
        query = f"?{urlencode(request.query)}" if request.query else ""
        return URL(f"{self._access.server}{path}{query}", encoded=True)

    def _current_token(self) -> str:
        """A token file is read again now and then: its content is rotated long before it expires."""
        file = self._access.token_file
        if file is None:
            return self._token
        now = asyncio.get_running_loop().time()
        if now - self._token_read_at > TOKEN_REREAD_S:
            try:
                self._token = file.read_text().strip()
            except OSError as error:
                log.warning("token file not readable", extra={"file": str(file), "error": str(error)})
            self._token_read_at = now
        return self._token


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body as it comes; leaving early closes the connection, which is how a watch is ended."""
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ConnectionError(f"stream broken: {error or type(error).__name__}") from error
    finally:
        answer.close()


def _probed_socket(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_IDLE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_INTERVAL_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBE_COUNT)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MAX_S * 1000)
    return made


def is_refused(error: Exception) -> bool:
    """Whether nobody listens there: the request cannot have been carried out."""
    return isinstance(getattr(error, "os_error", error), ConnectionRefusedError)


def tls_context(access: Access) -> ssl.SSLContext:
    """The client's side of TLS: the cluster's CA alone is trusted where one is named."""
    cadata = access.ca.decode() if access.ca else None
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=cadata)
    if access.is_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if access.certificate and access.key:
        _load_certificate(context, access.certificate, access.key)
    return context


def unverified_tls() -> ssl.SSLContext:
    """For servers whose certificate is nobody's to judge; it does not even read whom the distribution believes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _load_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL reads certificates from files only: a private one, for as long as it takes."""
    handle, name = tempfile.mkstemp(prefix="sampan-client-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(certificate.rstrip() + b"\n" + key)
        context.load_cert_chain(name)
    finally:
        Path(name).unlink()
