"""The network rim: aiohttp's low-level server on one TLS context, in front of `handle(Request) -> Response`.

An ordinary answer is one write of head and body to the transport, past aiohttp's response classes. A PushStream is
given the transport itself and writes chunks to it as they come; the connection task only waits for its end. Other
streams are iterated.
A client that is slow is not waited for: HEAD_S for the head of its first request, BODY_S for a body, KEEP_ALIVE_S for
the next request, PIECE_S to take a piece of a long answer. A head that is too long is answered 431, a malformed one
400, both as Go's server does it: they come before there is a request that a Status could answer. Bodies are taken as
they come, never unpacked.
A body that has not come with its head is read when the handler asks for it, which knows by then who sends it.
A client that leaves cancels a read or a stream, and what waits for its turn or its body; a write that has begun is
finished, since its client may be gone but its effect is wanted.

Taking the connection over (exec, attach, port-forward): a handler returns `Upgrade(run)`; `run` is awaited with
aiohttp's own request (`web.BaseRequest`) and does what aiohttp offers for it, e.g.

    async def run(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
        await socket.prepare(request)
        ...
        return socket
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl, unquote

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from orchestrator.api.status import BadRequest, Timeout
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver.asked import UpgradeResponse
from orchestrator.apiserver.body import BODY_BYTES_MAX
from orchestrator.apiserver.stream import PushStream

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 180.0
HEAD_S = 32.0  # kube-apiserver's, just shy of what its clients wait for
BODY_S = 60.0  # kube-apiserver's limit of a whole request
# Deviation: Go takes 1 MiB of head in all, whatever it consists of.
HEAD_LINE_BYTES_MAX = 64 << 10  # of the request line, and of a field
HEAD_FIELDS_MAX = 128
PIECE_BYTES = 256 << 10
PIECE_S = 60.0  # in which a client has to take a piece
GZIP_BYTES_MIN = 128 << 10
GZIP_LEVEL = 1
GZIP_WINDOW = 31  # zlib's window bits with the gzip header
BACKLOG = 1024
SAFE_METHODS = ("GET", "HEAD")

Handle = Callable[[Request], Awaitable[Response]]


class Peer(NamedTuple):
    """Who is at the other end: DER of certificate and of the authority that it was verified by, and the address."""

    certificate: bytes | None
    anchor: bytes | None
    address: str


class _Connection(RequestHandler):
    """aiohttp's connection, with our patience and our words for what is no HTTP."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        self._next_keepalive_close_time = self._loop.time() + HEAD_S
        self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        is_long = isinstance(exc, LineTooLong) or exc.message == "Too many headers received"
        code = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if is_long else HTTPStatus.BAD_REQUEST
        log.debug("no request", extra={"client": request.remote, "error": exc.message[:200]})
        text = f"{code} {code.phrase}".encode()
        return cast(web.StreamResponse, _Whole(request, code, {"content-type": "text/plain; charset=utf-8"}, text))


class _Connections(web.Server):
    """aiohttp's server, which also remembers what does not change while a connection lasts: certificate and address."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any) -> None:
        super().__init__(handler, **options)
        self.peers: dict[object, Peer] = {}

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        self.peers.pop(handler, None)
        super().connection_lost(handler, exc)

    def peer(self, raw: web.BaseRequest) -> Peer:
        found = self.peers.get(raw.protocol)
        if found is None:
            transport = raw.transport
            tls = transport.get_extra_info("ssl_object") if transport is not None else None
            certificate = tls.getpeercert(True) if tls is not None else None
            anchor = anchor_of(tls) if tls is not None and certificate else None
            found = Peer(certificate, anchor, raw.remote or "")
            if transport is not None:
                self.peers[raw.protocol] = found
        return found


class HttpServer:
    """Listens until closed. `addresses` are hosts to bind; port 0 asks the kernel for one (`port` then tells it)."""

    def __init__(self, handle: Handle, tls: ssl.SSLContext | None = None) -> None:
        self._handle = handle
        self._tls = tls
        self._server = _Connections(
            self._serve,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            handler_cancellation=True,
            auto_decompress=False,
            max_line_size=HEAD_LINE_BYTES_MAX,
            max_field_size=HEAD_LINE_BYTES_MAX,
            max_headers=HEAD_FIELDS_MAX,
        )
        self._listeners: list[asyncio.Server] = []

    async def listen(self, addresses: tuple[str, ...], port: int) -> int:
        """Binds each address, all interfaces where there is none; returns the port."""
        loop = asyncio.get_running_loop()
        for address in addresses or (None,):
            listener = await loop.create_server(self._server, address, port, ssl=self._tls, backlog=BACKLOG)
            self._listeners.append(listener)
            port = port or int(listener.sockets[0].getsockname()[1])
        return port

    async def close(self, grace_s: float = 2.0) -> None:
        for listener in self._listeners:
            listener.close()
        self._server.pre_shutdown()
        await self._server.shutdown(grace_s)

    async def _serve(self, raw: web.BaseRequest) -> web.StreamResponse:
        request = _head_of(raw, self._server.peer(raw))
        request.outlives_client = request.method not in SAFE_METHODS
        if raw.body_exists:
            if raw.content.is_eof() and raw.content.exception() is None:  # it has come with the head
                request.body = raw.content.read_nowait()
            else:
                request.unread = partial(_body, raw)
        answer = await self._handle(request)
        if isinstance(answer, UpgradeResponse):
            return await answer.upgrade.run(raw)
        body = answer.body
        if isinstance(body, bytes):
            if len(body) >= GZIP_BYTES_MIN and "gzip" in request.headers.get("accept-encoding", ""):
                body = await asyncio.get_running_loop().run_in_executor(None, _gzipped, body)
                answer.headers["content-encoding"] = "gzip"
            return cast(web.StreamResponse, _Whole(raw, answer.status, answer.headers, body))
        return cast(web.StreamResponse, await _streamed(raw, answer, body))


def _head_of(raw: web.BaseRequest, peer: Peer) -> Request:
    message = raw._message
    path, _, query = message.path.partition("?")
    headers = {name.lower(): _text(value) for name, value in message.headers.items()}
    repeated: dict[str, list[str]] = {}
    if len(headers) != len(message.headers):
        for name in headers:
            values = [_text(value) for value in message.headers.getall(name)]
            if len(values) > 1:
                headers[name], repeated[name] = ",".join(values), values
    return Request(
        message.method,
        unquote(path) if "%" in path else _text(path),
        parse_qsl(query, keep_blank_values=True) if query else [],
        headers,
        peer_certificate=peer.certificate,
        peer_anchor=peer.anchor,
        remote_address=peer.address,
        repeated=repeated,
    )


def _text(value: str) -> str:
    """Without the half characters that aiohttp makes of bytes which are no UTF-8: they could not be written again."""
    return value if value.isascii() else value.encode(errors="surrogateescape").decode(errors="replace")


async def _body(raw: web.BaseRequest) -> bytes:
    """A little more at most than is allowed; the handler refuses that, and the connection ends with the answer.
    Errors: Timeout, BadRequest."""
    try:
        return await _pieces(raw)
    except TimeoutError as error:
        raise Timeout("Timeout: request did not complete within the allotted timeout") from error
    except (RequestPayloadError, ConnectionError) as error:
        raise BadRequest(f"the body of the request could not be read: {error}") from error


async def _pieces(raw: web.BaseRequest) -> bytes:
    if raw.headers.get("expect", "").lower() == "100-continue" and raw.transport is not None:
        raw.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    pieces, size = [], 0
    async with asyncio.timeout(BODY_S):
        async for piece in raw.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size > BODY_BYTES_MAX:
                break
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _gzipped(body: bytes) -> bytes:
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WINDOW)
    return packer.compress(body) + packer.flush()


@lru_cache(maxsize=256)
def _status_line(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n"


def _head(status: int, headers: dict[str, str], last: str, keep_alive: bool) -> bytes:
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    assert fields.count("\r") == fields.count("\n") == len(headers), "no value ends its header"
    end = "" if keep_alive else "connection: close\r\n"
    kept = "" if "cache-control" in headers else "cache-control: no-cache, private\r\n"
    return f"{_status_line(status)}{kept}{fields}{last}{end}\r\n".encode()


class _Whole:
    """What aiohttp's connection needs of a response, and no more: `prepare` writes all of it. A long list goes piece by
    piece, each once the transport has taken the one before: the client reads while the next is encrypted, and other
    clients are served in between."""

    body_length = 0

    def __init__(self, raw: web.BaseRequest, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.keep_alive = raw.keep_alive and (not raw.body_exists or raw.content.at_eof())
        self._raw = raw
        self._head = _head(status, headers, f"content-length: {len(body)}\r\n", self.keep_alive)
        self._body = b"" if raw.method == "HEAD" else body

    async def prepare(self, request: web.BaseRequest) -> None:
        body, self._body = self._body, b""
        if len(body) <= PIECE_BYTES:
            _transport(request).write(self._head + body)
            return
        _transport(request).write(self._head)
        whole = memoryview(body)
        for start in range(0, len(body), PIECE_BYTES):
            _transport(request).write(whole[start : start + PIECE_BYTES])
            try:
                async with asyncio.timeout(PIECE_S):
                    await _drained(request)
            except TimeoutError:
                _transport(request).abort()
                raise ConnectionResetError("the client does not read") from None

    async def write_eof(self) -> None:
        await _drained(self._raw)


def _transport(raw: web.BaseRequest) -> asyncio.Transport:
    transport = raw.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has gone")
    return transport


async def _drained(raw: web.BaseRequest) -> None:
    """Waits while the transport has more than it likes to hold."""
    protocol = raw.protocol
    if protocol is not None and protocol._paused:
        await protocol._drain_helper()


class _Ended:
    """A response whose bytes are all written."""

    body_length = 0

    def __init__(self, status: int, *, keep_alive: bool) -> None:
        self.status = status
        self.keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        pass

    async def write_eof(self) -> None:
        pass


class _ChunkedConnection:
    """Chunked transfer encoding on a transport: the connection of a PushStream."""

    def __init__(self, transport: asyncio.Transport, done: asyncio.Future[bool]) -> None:
        self._transport = transport
        self._done = done

    def write(self, data: bytes) -> None:
        """Nothing once the client has gone: a closed TLS transport may not be touched (its writes and sizes raise)."""
        if not self._transport.is_closing():
            self._transport.write(b"%x\r\n%s\r\n" % (len(data), data))

    def unsent_bytes(self) -> int:
        return 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()

    def finish(self) -> None:
        if not self._done.done():
            if not self._transport.is_closing():
                self._transport.write(b"0\r\n\r\n")
            self._done.set_result(True)

    def abort(self) -> None:
        if not self._done.done():
            self._transport.abort()
            self._done.set_result(False)


async def _streamed(raw: web.BaseRequest, answer: Response, body: AsyncIterator[bytes]) -> Any:
    transport = raw.transport
    if transport is None:
        if isinstance(body, PushStream):
            body.close()
        raise ConnectionResetError("the client has gone")
    transport.write(_head(answer.status, answer.headers, "transfer-encoding: chunked\r\n", raw.keep_alive))
    done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    connection = _ChunkedConnection(transport, done)
    if isinstance(body, PushStream):
        body.attach(connection)
        try:
            await body.pour(lambda: _drained(raw))
            whole = await done
        finally:
            body.close()
        return _Ended(answer.status, keep_alive=whole and raw.keep_alive)
    try:
        async for piece in body:
            if piece:
                connection.write(piece)
                await _drained(raw)
    finally:
        if close := getattr(body, "aclose", None):
            await close()
    connection.finish()
    return _Ended(answer.status, keep_alive=raw.keep_alive)


def server_tls(certificate: str, key: str, *authorities: str) -> ssl.SSLContext:
    """The one TLS context of the server; files are PEM. A client certificate is asked for where there are authorities,
    and verified by them where one comes: on each connection anew, since a session that is taken up again does not say
    which of them it was."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    for file in authorities:
        context.load_verify_locations(file)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def anchor_of(tls: ssl.SSLObject) -> bytes | None:
    """DER of the authority at the end of the chain by which the other side's certificate was verified. Python has had
    the call since 3.10, and named it in 3.13."""
    if hasattr(tls, "get_verified_chain"):
        named = tls.get_verified_chain()
        return bytes(named[-1]) if named else None
    chain = tls._sslobj.get_verified_chain()  # type: ignore[attr-defined]
    return ssl.PEM_cert_to_DER_cert(chain[-1].public_bytes()) if chain else None
