"""etcd's API over HTTP: the JSON gateway that every etcd serves beside gRPC. Keys and values are base64 in JSON.

One `Etcd` speaks to one cluster through any of its endpoints: a request that could not be sent goes to the next one.
Errors: EtcdError with etcd's words and gRPC code; OSError, aiohttp.ClientError where no endpoint answers.
Source: etcd v3 API reference (KV, Watch, Lease), "gRPC gateway".
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import orjson

TIMEOUT_S = 10.0
CHUNK_BYTES_MAX = 64 << 20  # of one message of a watch
OUT_OF_RANGE = 11  # gRPC code of a revision that is compacted, or yet to come


class EtcdError(Exception):
    """What etcd answered in place of a result."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def text(data: str) -> str:
    return base64.b64decode(data).decode()


def value(data: str | None) -> bytes:
    return base64.b64decode(data or "")


class Etcd:
    """`endpoints` are URLs, `https://host:2379`."""

    def __init__(self, endpoints: Sequence[str], tls: ssl.SSLContext | None = None) -> None:
        if not endpoints:
            raise ValueError("etcd: at least one endpoint is needed")
        self._endpoints = [endpoint.rstrip("/") for endpoint in endpoints]
        if tls is None and any(endpoint.startswith("https:") for endpoint in endpoints):
            tls = ssl.create_default_context()
        connector = aiohttp.TCPConnector(limit=0, ssl=tls if tls is not None else True)
        self._session = aiohttp.ClientSession(
            connector=connector, json_serialize=lambda obj: orjson.dumps(obj).decode()
        )
        self._at = 0

    async def close(self) -> None:
        await self._session.close()

    async def call(self, path: str, body: dict[str, Any], *, is_read: bool = False) -> dict[str, Any]:
        """`path` as `kv/range`. A write is sent again only where it certainly did not arrive."""
        failure: Exception = OSError("no endpoint")
        for _ in self._endpoints:
            try:
                return await self._post(path, body)
            except (aiohttp.ClientConnectorError, ConnectionRefusedError) as error:
                failure = error
            except (aiohttp.ClientError, TimeoutError) as error:
                if not is_read:
                    raise
                failure = error
            self._at = (self._at + 1) % len(self._endpoints)
        raise failure

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        url = f"{self._endpoints[self._at]}/v3/{path}"
        async with self._session.post(
            url, data=orjson.dumps(body), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
        ) as answer:
            found = orjson.loads(await answer.read())
        if answer.status != 200:
            raise EtcdError(
                found.get("message") or found.get("error") or f"status {answer.status}", found.get("code") or 0
            )
        result: dict[str, Any] = found
        return result

    async def watch(self, start: int) -> AsyncIterator[dict[str, Any]]:
        """Every change of every key from revision `start`, each with what it replaced; ends with an error or close."""
        create = {"key": b64(b"\0"), "range_end": b64(b"\0"), "start_revision": str(start), "prev_kv": True}
        body = orjson.dumps({"create_request": create})
        url = f"{self._endpoints[self._at]}/v3/watch"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S)
        try:
            async with self._session.post(url, data=body, timeout=timeout) as answer:
                rest = b""
                async for chunk in answer.content.iter_any():
                    rest += chunk
                    if len(rest) > CHUNK_BYTES_MAX:
                        raise EtcdError("a message of a watch is too large")
                    *lines, rest = rest.split(b"\n")
                    for line in filter(None, lines):
                        message = orjson.loads(line)
                        if "error" in message:
                            failed = message["error"]
                            raise EtcdError(failed.get("message") or "watch failed", failed.get("grpc_code") or 0)
                        yield message["result"]
        except (aiohttp.ClientError, OSError):
            self._at = (self._at + 1) % len(self._endpoints)
            raise
