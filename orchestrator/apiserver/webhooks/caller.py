"""Calling a webhook: its `clientConfig` to a connection, a review to an answer.

A service is reached at its cluster address, which the proxy of the API server's node carries on, by the name that its
certificate must have, `NAME.NAMESPACE.svc`; a url as it is. The certificate is verified with `caBundle`, or with the
system's roots where there is none. Errors: CallFailed with the words of kube-apiserver's client.
Source: admissionregistration/v1 WebhookClientConfig; k8s.io/apiserver pkg/util/webhook.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import aiohttp
import orjson
from yarl import URL

from orchestrator.api.meta import Object
from orchestrator.apiserver import services
from orchestrator.apiserver.lookup import Lookup

ANSWER_BYTES_MAX = 3 << 20
TIMEOUT_S = 30.0


class CallFailed(Exception):
    """The webhook could not be asked, or gave no answer that is one."""


@lru_cache(maxsize=64)
def _tls(ca_bundle: str) -> ssl.SSLContext:
    try:
        return services.trusting(ca_bundle)
    except services.NoAuthorities as error:
        raise CallFailed(str(error)) from error


class Caller:
    """One session for all webhooks of a server."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, config: Mapping[str, Any], review: Object, timeout_s: float = TIMEOUT_S) -> Object:
        """The answer to `review`. Errors: CallFailed."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit_per_host=32))
        shown, url, name = self._address(config)
        query = {"timeout": f"{max(1, round(timeout_s))}s"}
        shown_url = f'Post "{shown.update_query(query)}"'
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._session.post(
                    url.update_query(query),
                    data=orjson.dumps(review),
                    headers={"content-type": "application/json", "accept": "application/json, */*", "host": name},
                    ssl=_tls(config.get("caBundle") or ""),
                    server_hostname=name.partition(":")[0],
                    allow_redirects=False,
                )
                body = await answer.content.read(ANSWER_BYTES_MAX)
        except TimeoutError as error:
            raise CallFailed(f"failed to call webhook: {shown_url}: context deadline exceeded") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise CallFailed(f"failed to call webhook: {shown_url}: x509: {error.certificate_error}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise CallFailed(f"failed to call webhook: {shown_url}: {error or type(error).__name__}") from error
        if not 200 <= answer.status < 300:
            raise CallFailed(f"failed to call webhook: {_words(answer.status, body)}")
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise CallFailed(f"failed to call webhook: couldn't get version/kind; json parse error: {error}") from error
        if not isinstance(found, dict):
            raise CallFailed("failed to call webhook: the answer is not an object")
        return found

    def _address(self, config: Mapping[str, Any]) -> tuple[URL, URL, str]:
        """(the URL as messages show it, where to connect, the host that is asked for)."""
        if url := config.get("url"):
            parsed = URL(url)
            return parsed, parsed, parsed.authority
        service = config.get("service") or {}
        name, namespace, port = service.get("name") or "", service.get("namespace") or "", service.get("port") or 443
        host = f"{name}.{namespace}.svc"
        path = service.get("path") or ""
        shown = URL(f"https://{host}:{port}{path}")
        try:
            address = services.address_of(self._lookup, namespace, name, port)
        except services.NoAddress as error:
            raise CallFailed(f'failed to call webhook: Post "{shown}": {error}') from error
        return shown, URL(f"https://{services.authority(address, port)}{path}"), host


def _words(code: int, body: bytes) -> str:
    """What kube-apiserver's client says of an answer that is an error."""
    try:
        message = orjson.loads(body).get("message")
    except (orjson.JSONDecodeError, AttributeError):
        message = None
    if isinstance(message, str) and message:
        return message
    if code == 404:
        return "the server could not find the requested resource"
    text = body.decode(errors="replace").strip()
    return f'an error on the server ("{text}") has prevented the request from succeeding'
