"""SPDY/3.1 frames, the server's side, without I/O: bytes in, events out, frames to send as bytes.

kubectl still speaks it: port-forward inside a WebSocket, and everything where WebSockets fail. A control frame has the
top bit set, a version and a type; a data frame has a stream id there instead; 8 bits of flags and 24 of length follow.
Header blocks are zlib streams that live as long as the connection and start from the fixed dictionary of the draft.
Streams are opened by the client alone, with odd ids. Flow control is not done: the one client there is (spdystream, in
Go) neither asks for windows nor keeps to them, and TCP below it slows a sender down.
Errors: SpdyError for bytes that are no SPDY/3; the connection is then of no use.
Source: SPDY Protocol, Draft 3.1, sections 2.2 to 2.6.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from msgspec import Struct

VERSION = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FLAG_FIN = 1
PROTOCOL_ERROR, REFUSED_STREAM, CANCEL = 1, 3, 5
FRAME_BYTES_MAX = 1 << 24
DATA_BYTES_MAX = 1 << 15
HEADER_BYTES_MAX = 1 << 16

# Section 2.6.10.1: words with their lengths before them, then text without.
_WORDS = (
    "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|accept-ranges|age|allow|"
    "authorization|cache-control|connection|content-base|content-encoding|content-language|content-length|"
    "content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|"
    "if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|"
    "proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|"
    "user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|"
    "keep-alive|origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(word)) + word.encode() for word in _WORDS.split("|")) + _TEXT.encode()


class SpdyError(ConnectionError):
    """The peer does not speak SPDY/3."""


class Opened(Struct, frozen=True):
    stream_id: int
    headers: dict[str, str]
    is_last: bool


class Data(Struct, frozen=True):
    stream_id: int
    data: bytes
    is_last: bool


class Reset(Struct, frozen=True):
    stream_id: int


class Ping(Struct, frozen=True):
    """To be answered with `pong`."""

    ping_id: int


class Goaway(Struct, frozen=True):
    """No more streams will be opened."""


Event = Opened | Data | Reset | Ping | Goaway


class Codec:
    """One connection's frames."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        self._unread += data
        events: list[Event] = []
        while len(self._unread) >= 8:
            first, rest = struct.unpack_from(">II", self._unread)
            flags, length = rest >> 24, rest & 0xFFFFFF
            if len(self._unread) < 8 + length:
                break
            body = bytes(self._unread[8 : 8 + length])
            del self._unread[: 8 + length]
            if first >> 31:
                event = self._control(first >> 16 & 0x7FFF, first & 0xFFFF, flags, body)
            else:
                event = Data(first, body, bool(flags & FLAG_FIN))
            if event is not None:
                events.append(event)
        return events

    def _control(self, version: int, kind: int, flags: int, body: bytes) -> Event | None:
        if version != VERSION:
            raise SpdyError(f"frame of SPDY version {version}")
        try:
            if kind == SYN_STREAM:
                (stream_id,) = struct.unpack_from(">I", body)
                return Opened(stream_id & 0x7FFFFFFF, self._headers(body[10:]), bool(flags & FLAG_FIN))
            if kind == HEADERS:
                self._headers(body[4:])  # nothing here uses them, but the compressor's state runs through all blocks
                (stream_id,) = struct.unpack_from(">I", body)
                return Data(stream_id & 0x7FFFFFFF, b"", True) if flags & FLAG_FIN else None
            if kind == RST_STREAM:
                return Reset(struct.unpack_from(">I", body)[0] & 0x7FFFFFFF)
            if kind == PING:
                return Ping(struct.unpack_from(">I", body)[0])
        except struct.error as error:
            raise SpdyError(f"frame of type {kind} is too short") from error
        return Goaway() if kind == GOAWAY else None

    def _headers(self, block: bytes) -> dict[str, str]:
        """Names in lower case; values of one name are joined by zero bytes and stay so."""
        try:
            text = self._inflate.decompress(block, HEADER_BYTES_MAX)
            (count,) = struct.unpack_from(">I", text)
            at = 4
            fields: list[str] = []
            for _ in range(2 * min(count, HEADER_BYTES_MAX)):
                (length,) = struct.unpack_from(">I", text, at)
                fields.append(text[at + 4 : at + 4 + length].decode("latin-1"))
                at += 4 + length
        except (zlib.error, struct.error) as error:
            raise SpdyError("header block cannot be read") from error
        return {name.lower(): value for name, value in zip(fields[::2], fields[1::2], strict=True)}

    def reply(self, stream_id: int, headers: Mapping[str, str] | None = None) -> bytes:
        pairs = [field.encode() for pair in (headers or {}).items() for field in pair]
        text = struct.pack(">I", len(pairs) // 2) + b"".join(struct.pack(">I", len(field)) + field for field in pairs)
        block = self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control_frame(SYN_REPLY, 0, struct.pack(">I", stream_id) + block)

    @staticmethod
    def data(stream_id: int, data: bytes, *, is_last: bool = False) -> bytes:
        return struct.pack(">II", stream_id, (FLAG_FIN if is_last else 0) << 24 | len(data)) + data

    @staticmethod
    def reset(stream_id: int, status: int) -> bytes:
        return _control_frame(RST_STREAM, 0, struct.pack(">II", stream_id, status))

    @staticmethod
    def pong(ping_id: int) -> bytes:
        return _control_frame(PING, 0, struct.pack(">I", ping_id))

    @staticmethod
    def goaway(last_stream_id: int) -> bytes:
        return _control_frame(GOAWAY, 0, struct.pack(">II", last_stream_id, 0))


def _control_frame(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack(">HHI", 0x8000 | VERSION, kind, flags << 24 | len(body)) + body
