"""The wire format: what is cut, echoed, compressed and refused."""

from __future__ import annotations

import struct

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.dns import message
from orchestrator.dns.message import Answer, MalformedError, Record

NAME = "db.default.svc.cluster.local"


def many(count: int) -> Answer:
    return Answer(answers=tuple(Record(NAME, message.A, 5, bytes((10, 0, 0, index))) for index in range(count)))


def test_question_is_echoed_as_it_was_asked() -> None:
    asked = dnslib.DNSRecord.question("dB.deFault.svc.cluster.LOCAL").pack()
    response = message.write_response(message.read_query(asked), many(1), 512)
    assert response[:2] == asked[:2]
    assert response[12 : len(asked)] == asked[12:]


def test_too_many_records_are_cut_and_the_rest_kept() -> None:
    query = message.read_query(dnslib.DNSRecord.question(NAME).pack())
    response = message.write_response(query, many(100), query.limit_bytes)
    assert len(response) <= 512
    parsed = dnslib.DNSRecord.parse(response)
    assert parsed.header.tc == 1
    assert len(parsed.rr) == (512 - len(query.question) - 12) // 16
    assert not dnslib.DNSRecord.parse(message.write_response(query, many(100), message.TCP_BYTES)).header.tc


def test_edns_raises_the_limit_and_is_answered() -> None:
    asked = dnslib.DNSRecord.question(NAME)
    asked.add_ar(dnslib.EDNS0(udp_len=4096))
    query = message.read_query(asked.pack())
    assert query.limit_bytes == message.EDNS_BYTES
    parsed = dnslib.DNSRecord.parse(message.write_response(query, many(60), query.limit_bytes))
    assert len(parsed.rr) == 60
    assert [record.rtype for record in parsed.ar] == [message.OPT]


def test_names_are_compressed() -> None:
    query = message.read_query(dnslib.DNSRecord.question(NAME, "SRV").pack())
    extra = Record("db-0." + NAME, message.A, 5, bytes(4))
    response = message.write_response(query, Answer(answers=(extra, extra)), 512)
    assert [str(record.rname) for record in dnslib.DNSRecord.parse(response).rr] == [f"db-0.{NAME}."] * 2
    assert len(response) == 12 + len(query.question) + (5 + 2 + 14) + (2 + 14)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 11, id="short"),
        pytest.param(struct.pack("!6H", 1, 0, 1, 0, 0, 0), id="no-question"),
        pytest.param(struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\x05abc", id="cut-label"),
        pytest.param(struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", id="pointer-in-question"),
        pytest.param(struct.pack("!6H", 1, 0, 2, 0, 0, 0) + b"\0\0\1\0\1" * 2, id="two-questions"),
        pytest.param(struct.pack("!6H", 1, 0x8000, 1, 0, 0, 0) + b"\0\0\1\0\1", id="a-response"),
    ],
)
def test_malformed_queries_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        message.read_query(data)


def test_what_cannot_be_read_is_answered_formerr_unless_it_is_a_response() -> None:
    assert message.write_error(b"\x12\x34\x01\x00" + bytes(8), message.FORMERR) == b"\x12\x34\x81\x01" + bytes(8)
    assert message.write_error(b"\x12\x34\x81\x00" + bytes(8), message.FORMERR) is None
    assert message.write_error(b"\x12", message.FORMERR) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        query = message.read_query(data)
    except MalformedError:
        return
    assert len(message.write_response(query, many(3), 512)) <= 12 + len(query.question) + 11 + 48


@given(st.lists(st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=63), min_size=1, max_size=3))
def test_names_survive_a_round_trip(labels: list[str]) -> None:
    name = ".".join(labels)
    assert message.read_name(message.encode_name(name)) == name
