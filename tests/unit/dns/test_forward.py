"""Replies from upstream: which are believed, how long they are kept, how they are handed on."""

from __future__ import annotations

import struct

import dnslib
import pytest

from orchestrator.dns import forward, message


def reply(*records: str, name: str = "example.com", authority: str = "") -> bytes:
    made = dnslib.DNSRecord.question(name).reply()
    for record in records:
        made.add_answer(*dnslib.RR.fromZone(record))
    if authority:
        made.add_auth(*dnslib.RR.fromZone(authority))
    return bytes(made.pack())


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        pytest.param(reply("example.com 300 A 1.2.3.4"), 30, id="never-longer-than-the-maximum"),
        pytest.param(reply("example.com 300 A 1.2.3.4", "example.com 7 A 1.2.3.5"), 7, id="smallest-ttl"),
        pytest.param(reply(), 0, id="nothing-to-go-by"),
        pytest.param(reply(authority="com 900 SOA a.com b.com 1 2 3 4 11"), 11, id="negative-ttl-of-the-soa"),
        pytest.param(reply(authority="com 4 SOA a.com b.com 1 2 3 4 11"), 4, id="or-the-ttl-of-the-soa-itself"),
    ],
)
def test_lifetime(data: bytes, seconds: int) -> None:
    assert forward.lifetime(data)[0] == seconds


def test_ttls_count_down() -> None:
    data = reply("example.com 300 A 1.2.3.4", "example.com 7 A 1.2.3.5")
    aged = dnslib.DNSRecord.parse(forward.aged(data, forward.lifetime(data)[1], 10))
    assert [record.ttl for record in aged.rr] == [290, 0]


def asked(number: int, name: str = "example.com") -> bytes:
    question = dnslib.DNSRecord.question(name).pack()[12:]
    return struct.pack("!6H", number, message.RD, 1, 0, 0, 1) + question + forward._OPT


@pytest.mark.parametrize(
    ("change", "believed"),
    [
        pytest.param(lambda data: data, True, id="its-own-reply"),
        pytest.param(lambda data: b"\0\1" + data[2:], False, id="another-id"),
        pytest.param(lambda data: data[:2] + bytes((data[2] & 0x7F,)) + data[3:], False, id="a-query"),
        pytest.param(lambda data: data.replace(b"example", b"exbmple"), False, id="another-question"),
        pytest.param(lambda data: data.replace(b"example", b"eXample"), True, id="case-of-the-question-is-free"),
        pytest.param(lambda data: data[:20], False, id="cut"),
    ],
)
def test_which_replies_are_believed(change: object, believed: bool) -> None:
    data = reply("example.com 5 A 1.2.3.4")
    number = int.from_bytes(data[:2], "big") or 7
    assert callable(change)
    assert forward.answers(asked(number), change(number.to_bytes(2, "big") + data[2:])) is believed


def test_a_reply_too_large_for_the_client_is_cut() -> None:
    data = reply(*(f"example.com 5 A 10.0.0.{index}" for index in range(60)))
    query = message.read_query(dnslib.DNSRecord.question("EXAMPLE.com").pack())
    cut = dnslib.DNSRecord.parse(forward.adapted(data, query, query.limit_bytes))
    assert cut.header.tc == 1
    assert cut.rr == []
    whole = dnslib.DNSRecord.parse(forward.adapted(data, query, message.TCP_BYTES))
    assert whole.header.id == query.id
    assert str(whole.q.qname) == "EXAMPLE.com."
    assert len(whole.rr) == 60


def test_upstreams_opt_stays_upstream() -> None:
    made = dnslib.DNSRecord.parse(reply("example.com 5 A 1.2.3.4"))
    made.add_ar(dnslib.EDNS0(udp_len=4096))
    query = message.read_query(dnslib.DNSRecord.question("example.com").pack())
    adapted = dnslib.DNSRecord.parse(forward.adapted(bytes(made.pack()), query, 512))
    assert adapted.ar == []
    assert len(adapted.rr) == 1


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("10.0.0.2", ("10.0.0.2", 53)),
        ("10.0.0.2:5353", ("10.0.0.2", 5353)),
        ("fd00::2", ("fd00::2", 53)),
        ("[fd00::2]:5353", ("fd00::2", 5353)),
    ],
)
def test_parse_upstream(text: str, upstream: tuple[str, int]) -> None:
    assert forward.parse_upstream(text) == upstream
