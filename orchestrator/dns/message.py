"""DNS messages on the wire, as far as a cluster needs them: read a query, write a response.

A name is text in lower case without the last dot (`web.default.svc.cluster.local`); the root is "". A query holds one
question; a response echoes it as it was asked (clients may vary its case to detect forgery) and compresses the names
that follow. Only the first OPT record of a query is read (RFC 6891): its payload size bounds a UDP response.
Errors: MalformedError where a message cannot be read; it is answered with FORMERR if it has a header at all.
Source: RFC 1035 section 4; RFC 2782 (SRV); RFC 6891 (EDNS).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from msgspec import Struct

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
IN = 1

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5

QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800

UDP_BYTES = 512  # of a response to a client that says nothing
EDNS_BYTES = 1232  # no fragments on any path (DNS flag day 2020)
TCP_BYTES = 65_535

_HEADER = struct.Struct("!6H")
_QUESTION = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_SERVICE = struct.Struct("!HHH")


class MalformedError(ValueError):
    """Bytes that are no DNS query."""


class Query(Struct, frozen=True):
    """`question` is its bytes as they came; `limit_bytes` is what the client takes in one UDP response."""

    id: int
    flags: int
    name: str
    type: int
    klass: int
    question: bytes
    has_edns: bool = False
    limit_bytes: int = UDP_BYTES

    @property
    def is_standard(self) -> bool:
        return not self.flags & _OPCODE


class Record(Struct, frozen=True):
    """`data` is the encoded RDATA of the type, with uncompressed names."""

    name: str
    type: int
    ttl_s: int
    data: bytes


class Answer(Struct, frozen=True):
    """What is said to a query: the code and three sections of records."""

    code: int = NOERROR
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    is_authoritative: bool = True


def encode_name(name: str) -> bytes:
    """Uncompressed. MalformedError for a label over 63 bytes or a name over 255."""
    encoded = b"".join(_label(part) for part in name.split(".") if part) + b"\0"
    if len(encoded) > 255:
        raise MalformedError(f"name of {len(encoded)} bytes")
    return encoded


def _label(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    if not 0 < len(raw) < 64:
        raise MalformedError(f"label of {len(raw)} bytes")
    return bytes((len(raw),)) + raw


def service_data(priority: int, weight: int, port: int, target: str) -> bytes:
    return _SERVICE.pack(priority, weight, port) + encode_name(target)


def read_name(data: bytes) -> str:
    """The uncompressed name at the start of RDATA."""
    return read_name_at(data, 0)[0]


def service_target(data: bytes) -> str:
    return read_name(data[6:])


def text_data(text: str) -> bytes:
    raw = text.encode()
    return bytes((len(raw),)) + raw


def authority_data(server: str, mailbox: str, serial: int, negative_ttl_s: int) -> bytes:
    """RDATA of SOA; refresh, retry and expire are for secondaries, of which there are none."""
    return encode_name(server) + encode_name(mailbox) + struct.pack("!5I", serial, 7200, 1800, 86_400, negative_ttl_s)


def read_query(data: bytes) -> Query:
    if len(data) < _HEADER.size:
        raise MalformedError("shorter than a header")
    number, flags, questions, _, _, additional = _HEADER.unpack_from(data)
    if flags & QR or questions != 1:
        raise MalformedError("not a query of one question")
    name, end = read_name_at(data, _HEADER.size)
    if end + 4 > len(data):
        raise MalformedError("question is cut")
    kind, klass = _QUESTION.unpack_from(data, end)
    end += 4
    has_edns, limit_bytes = _read_edns(data, end, additional)
    return Query(number, flags, name, kind, klass, data[_HEADER.size : end], has_edns, limit_bytes)


def _read_edns(data: bytes, position: int, additional: int) -> tuple[bool, int]:
    if additional and len(data) >= position + 11 and data[position] == 0:
        kind, size = _QUESTION.unpack_from(data, position + 1)
        if kind == OPT:
            return True, EDNS_BYTES if size >= EDNS_BYTES else max(UDP_BYTES, size)
    return False, UDP_BYTES


def read_name_at(data: bytes, position: int) -> tuple[str, int]:
    """A name without compression (a question has none, for nothing precedes it)."""
    labels: list[bytes] = []
    while position < len(data):
        size = data[position]
        position += 1
        if size == 0:
            return b".".join(labels).lower().decode("utf-8", "surrogateescape"), position
        if size > 63 or position + size > len(data):
            break
        labels.append(data[position : position + size])
        position += size
    raise MalformedError("name is cut or compressed")


def write_response(query: Query, answer: Answer, limit_bytes: int) -> bytes:
    """The whole message. What exceeds the limit is left out and TC set, so that the client asks again over TCP; the
    records that fit stay, for clients that never do."""
    flags = QR | RA | (query.flags & (RD | _OPCODE)) | (AA if answer.is_authoritative else 0) | answer.code
    opt = b"\0" + _RECORD.pack(OPT, EDNS_BYTES, 0, 0) if query.has_edns else b""
    body = bytearray(query.question)
    offsets = {query.name: _HEADER.size}
    counts = [0, 0, 0]
    for section, records in enumerate((answer.answers, answer.authority, answer.additional)):
        for record in records:
            size = len(body)
            _write_record(body, record, offsets)
            if _HEADER.size + len(body) + len(opt) > limit_bytes:
                del body[size:]
                if section < 2:  # additional records are a courtesy: without them the answer is still whole
                    flags |= TC
                break
            counts[section] += 1
        else:
            continue
        break
    header = _HEADER.pack(query.id, flags, 1, counts[0], counts[1], counts[2] + (1 if opt else 0))
    return header + bytes(body) + opt


def _write_record(body: bytearray, record: Record, offsets: dict[str, int]) -> None:
    _write_name(body, record.name, offsets)
    body += _RECORD.pack(record.type, IN, record.ttl_s, len(record.data)) + record.data


def _write_name(body: bytearray, name: str, offsets: dict[str, int]) -> None:
    """Labels up to the longest suffix that stands earlier in the message, then a pointer to it."""
    while name:
        if (offset := offsets.get(name)) is not None:
            body += struct.pack("!H", 0xC000 | offset)
            return
        here = _HEADER.size + len(body)
        if here < 0x4000:
            offsets[name] = here
        first, _, name = name.partition(".")
        body += _label(first)
    body += b"\0"


def write_error(data: bytes, code: int) -> bytes | None:
    """An answer to what could not be read: its id and the code; None where not even a header came, or a response."""
    if len(data) < _HEADER.size:
        return None
    number, flags = struct.unpack_from("!HH", data)
    return None if flags & QR else _HEADER.pack(number, QR | (flags & (RD | _OPCODE)) | code, 0, 0, 0, 0)


def record_spans(data: bytes) -> Iterable[tuple[int, int, int]]:
    """(type, offset of the TTL, section) of each record of a response: section 1 answer, 2 authority, 3 additional."""
    _, _, questions, *counts = _HEADER.unpack_from(data)
    position = _HEADER.size
    for _ in range(questions):
        position = _skip_name(data, position) + 4
    for section, count in enumerate(counts, 1):
        for _ in range(count):
            position = _skip_name(data, position)
            kind, _, _, size = _RECORD.unpack_from(data, position)
            yield kind, position + 4, section
            position += _RECORD.size + size


def read_answers(data: bytes, wanted: int) -> list[tuple[int, bytes]]:
    """(TTL, RDATA) of the answers of a type whose RDATA holds no compressed name: A, AAAA, TXT."""
    if wanted not in (A, AAAA, TXT):
        return []
    found = []
    for kind, offset, section in record_spans(data):
        if kind == wanted and section == 1:
            ttl, size = struct.unpack_from("!IH", data, offset)
            found.append((ttl, data[offset + 6 : offset + 6 + size]))
    return found


def _skip_name(data: bytes, position: int) -> int:
    while True:
        size = data[position]
        if size >= 0xC0:
            return position + 2
        position += 1 + size
        if size == 0:
            return position
