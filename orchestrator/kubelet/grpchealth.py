"""One question to a gRPC health service (grpc.health.v1.Health/Check), spoken directly in HTTP/2 frames.

One request on one connection needs little of HTTP/2: the preface, SETTINGS, a HEADERS frame whose fields are literals
(no compression state), one DATA frame. Of the answer the DATA frames are read, and header blocks are skipped: they need
a decoder, and an answer without data is a failure whatever they say.
Source: RFC 9113 (frames), RFC 7541 section 6.2.2 (literals), gRPC over HTTP/2, health.proto.
"""

from __future__ import annotations

import asyncio

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
STREAM = 1
FRAME_MAX_BYTES = 2**14
STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")


class GrpcFailure(Exception):
    """The other side speaks no gRPC, or refused the call."""


async def check(host: str, port: int, service: str) -> str:
    """The serving status. OSError, EOFError and GrpcFailure where there is none."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        writer.write(request(authority, service))
        return await _answer(reader, writer)
    finally:
        writer.close()


def request(authority: str, service: str) -> bytes:
    """All that the client says."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "kube-probe/1.36"),
    ]
    block = b"".join(_literal(name, value) for name, value in fields)
    named = service.encode()
    message = b"\x0a" + bytes([len(named)]) + named if named else b""  # field 1, a string below 128 bytes
    body = b"\x00" + len(message).to_bytes(4, "big") + message
    return (
        PREFACE
        + _frame(SETTINGS, 0, 0, b"")
        + _frame(HEADERS, END_HEADERS, STREAM, block)
        + _frame(DATA, END_STREAM, STREAM, body)
    )


def status_of(message: bytes) -> str:
    """The status in a HealthCheckResponse: field 1, an enum; a message without it says UNKNOWN."""
    if len(message) >= 2 and message[0] == 0x08 and message[1] < len(STATUSES):
        return STATUSES[message[1]]
    return STATUSES[0]


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    body = b""
    while True:
        header = await reader.readexactly(9)
        length, kind, flags = int.from_bytes(header[:3], "big"), header[3], header[4]
        if length > FRAME_MAX_BYTES:
            raise GrpcFailure("the server does not speak HTTP/2")
        payload = await reader.readexactly(length)
        if kind == SETTINGS and not flags & ACK:
            writer.write(_frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            writer.write(_frame(PING, ACK, 0, payload))
        elif kind == DATA:
            body += payload
            size = int.from_bytes(body[1:5], "big") if len(body) >= 5 else FRAME_MAX_BYTES
            if len(body) >= 5 + size:
                return status_of(body[5 : 5 + size])
        elif kind in (RST_STREAM, GOAWAY):
            raise GrpcFailure("the server refused the call")
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            raise GrpcFailure("the server gave no health status (unimplemented, or an unknown service)")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _literal(name: str, value: str) -> bytes:
    """A header field without indexing, with a new name; all of ours are shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
