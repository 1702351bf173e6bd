"""One call of a gRPC service on a Unix socket: a message goes there, one comes back.

Each call has a connection of its own: a key management service is asked once a minute. `wait for ready` is gRPC's: a
socket where nobody listens yet is tried again until the time is over.
Errors: GrpcError with the code's name and the service's words. Source: gRPC over HTTP/2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import ProtocolError

AGAIN_S = 0.1
ANSWER_BYTES_MAX = 4 << 20  # as Go's clients take it
READ_BYTES = 64 << 10
# By number, RFC-like names of google.rpc.Code.
CODES = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip


class GrpcError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"rpc error: code = {code} desc = {message}")
        self.code = code


async def call(socket: str, method: str, message: bytes, timeout_s: float) -> bytes:
    """`method` as `/package.Service/Method`. A name in the abstract namespace begins with `@`."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _connected(socket)
            try:
                return await _answer(_Exchange(method, message), reader, writer)
            finally:
                writer.close()
    except TimeoutError as error:
        raise GrpcError("DeadlineExceeded", "context deadline exceeded") from error
    except (OSError, ProtocolError) as error:
        raise GrpcError("Unavailable", str(error) or type(error).__name__) from error


async def _connected(socket: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = f"\0{socket[1:]}" if socket.startswith("@") else socket
    while True:
        try:
            return await asyncio.open_unix_connection(place)
        except OSError:
            await asyncio.sleep(AGAIN_S)


async def _answer(exchange: _Exchange, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    while True:
        writer.write(exchange.to_send())
        if exchange.is_over:
            return exchange.message()
        await writer.drain()
        data = await reader.read(READ_BYTES)
        if not data:
            raise GrpcError("Unavailable", "connection closed before the answer")
        exchange.receive(data)


class _Exchange:
    """The protocol of one call, without the socket."""

    def __init__(self, method: str, message: bytes) -> None:
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._stream = self._h2.get_next_available_stream_id()
        self._unsent = b"\0" + len(message).to_bytes(4, "big") + message
        self._received = bytearray()
        self._fields: dict[str, str] = {}
        self.is_over = False
        head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        self._h2.send_headers(self._stream, head)

    def to_send(self) -> bytes:
        """As much as the other side takes now."""
        while self._unsent and not self.is_over:
            size = min(self._h2.local_flow_control_window(self._stream), self._h2.max_outbound_frame_size)
            if not size:
                break
            piece, self._unsent = self._unsent[:size], self._unsent[size:]
            self._h2.send_data(self._stream, piece, end_stream=not self._unsent)
        return self._h2.data_to_send()

    def receive(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            if isinstance(event, (ResponseReceived, TrailersReceived)):
                self._fields |= _fields(event.headers or ())
            elif isinstance(event, DataReceived):
                self._received += event.data or b""
                if len(self._received) > ANSWER_BYTES_MAX:
                    raise GrpcError("ResourceExhausted", f"received message larger than max ({ANSWER_BYTES_MAX})")
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, self._stream)
            elif isinstance(event, StreamEnded):
                self.is_over = True
            elif isinstance(event, (StreamReset, ConnectionTerminated)) and not self.is_over:
                raise GrpcError("Unavailable", f"the call was broken off (HTTP/2 error {event.error_code})")

    def message(self) -> bytes:
        if self._fields.get(":status") != "200":
            raise GrpcError("Unavailable", f"unexpected HTTP status code {self._fields.get(':status')}")
        code = self._fields.get("grpc-status", "2")
        if code != "0":
            name = CODES[int(code)] if code.isdecimal() and int(code) < len(CODES) else f"Code({code})"
            raise GrpcError(name, unquote(self._fields.get("grpc-message", "")))
        size = int.from_bytes(self._received[1:5], "big")
        if len(self._received) != 5 + size or self._received[0]:
            raise GrpcError("Internal", "the answer is not one whole message")
        return bytes(self._received[5:])


def _fields(headers: Sequence[tuple[str | bytes, str | bytes]]) -> dict[str, str]:
    return {str(name): str(value) for name, value in headers}
