"""An upgraded connection, relayed: the request goes on to the other end, and after its 101 bytes pass untouched.

So WebSockets with any subprotocol, SPDY, and SPDY inside a WebSocket all pass, and are ended by the kubelet. The other
end is asked before the caller is answered: what it refuses is an ordinary Status.
Errors: InternalError where the other end cannot be reached; what it answered otherwise, as the Status of its code.
Source: RFC 9110, section 7.8; kube-apiserver's UpgradeAwareHandler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlencode

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from orchestrator.api import status
from orchestrator.api.wire import Request
from orchestrator.apiserver.handlers import Upgrade
from orchestrator.apiserver.streams.backend import CHUNK_BYTES, CONNECT_TIMEOUT_S, Target

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 64 * 1024
UNSENT_BYTES_MAX = 1 << 20
# Of the caller's headers what is about the caller's own connection or identity stays here.
DROPPED = ("host", "connection", "content-length", "transfer-encoding", "authorization", "cookie", "expect")


def is_upgrade(request: Request) -> bool:
    return bool(request.headers.get("upgrade"))


def forwarded_headers(request: Request) -> dict[str, str]:
    kept = {
        name: value
        for name, value in request.headers.items()
        if name not in DROPPED and not name.startswith("impersonate-")
    }
    if request.remote_address:
        kept["x-forwarded-for"] = request.remote_address
    return kept


def path_and_query(path: str, query: list[tuple[str, str]]) -> str:
    return quote(path, safe="/:@!$&'()*+,;=~-._") + (f"?{urlencode(query)}" if query else "")


async def upgrade(
    request: Request, target: Target, path: str, query: list[tuple[str, str]], more: Iterable[tuple[str, str]] = ()
) -> Upgrade:
    """The connection to the other end, upgraded; the caller's follows when its time has come. `more`: headers."""
    reader, writer = await _connect(target)
    try:
        head = {
            **forwarded_headers(request),
            "host": target.authority,
            "connection": "Upgrade",
            "content-length": "0",
        }
        pairs = [*head.items(), *more]
        lines = [f"{request.method} {path_and_query(path, query)} HTTP/1.1", *(f"{k}: {v}" for k, v in pairs)]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        code, headers = parse_head(answer)
        if code != 101:
            raise refusal(code, await _body(reader, headers))
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        writer.close()
        raise status.InternalError(f"Internal error occurred: error dialing backend: {error}") from error
    except BaseException:
        writer.close()
        raise
    return Upgrade(_Relay(answer, reader, writer).run)


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await asyncio.open_connection(
                target.host, target.port, ssl=target.tls, server_hostname=target.server_name, limit=HEAD_BYTES_MAX
            )
    except (OSError, TimeoutError) as error:
        why = str(error) or "timeout"
        message = f"error dialing backend: dial tcp {target.authority}: {why}"
        raise status.InternalError(f"Internal error occurred: {message}") from error


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Code and headers (lower case) of an answer. ValueError for what is none."""
    first, *lines = head.decode("latin-1").split("\r\n")
    code = int(first.split(" ", 2)[1]) if first.startswith("HTTP/1.") else 0
    pairs = (line.partition(":") for line in lines if line)
    return code, {name.lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> str:
    length = int(headers.get("content-length") or 0)
    return (await reader.readexactly(min(length, BODY_BYTES_MAX))).decode(errors="replace").strip()


def refusal(code: int, text: str) -> status.ApiError:
    """What the other end said instead of 101."""
    kind = status.BY_CODE.get(code, status.InternalError)
    if kind is status.InternalError:
        return status.InternalError(f"Internal error occurred: unable to upgrade connection: {text}")
    return kind(text or f"the backend answered {code}", code=code)


class _Relay:
    """Two connections that are no longer HTTP. It stands in aiohttp's parser slot, as a WebSocket's reader would."""

    def __init__(self, answer: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._answer, self._reader, self._writer = answer, reader, writer
        self._client: asyncio.Transport | None = None
        self._draining: asyncio.Task[None] | None = None

    async def run(self, request: web.BaseRequest) -> web.StreamResponse:
        client = self._client = request.transport
        try:
            if client is not None:
                request.protocol.set_parser(self)  # type: ignore[arg-type]  # it is called as a parser is, and no more
                client.write(self._answer)
                await self._downward(client, request.writer)
        except OSError:
            pass  # one of both has gone
        finally:
            self._writer.close()
            if self._draining is not None:
                self._draining.cancel()
            if client is not None:
                client.close()  # flushes what is written, then closes
        return Hijacked()

    async def _downward(self, client: asyncio.Transport, client_writer: AbstractStreamWriter) -> None:
        while data := await self._reader.read(CHUNK_BYTES):
            if client.is_closing():
                return
            client.write(data)
            await client_writer.drain()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        if not self._writer.is_closing():
            self._writer.write(data)
            if self._writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX and self._draining is None:
                self._draining = asyncio.get_running_loop().create_task(self._drain())
        return False, b""

    async def _drain(self) -> None:
        """The caller sends faster than the other end takes: let it wait."""
        assert self._client is not None
        self._client.pause_reading()
        try:
            await self._writer.drain()
        except ConnectionError:
            return
        self._client.resume_reading()
        self._draining = None

    def feed_eof(self) -> None:
        """The caller has gone; so does the other connection, which ends `_downward`."""
        self._writer.close()

    def set_exception(self, *_: object) -> None:
        self.feed_eof()


class Hijacked(web.StreamResponse):
    """What is returned once the connection is no longer HTTP: there is nothing left to send."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None
