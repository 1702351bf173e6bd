"""Forwarding: names that are not the cluster's are asked upstream, and what came back is kept for its TTL.

Upstreams are tried in order, each for `PATIENCE_S`; the first that answers wins, and without any the answer is SERVFAIL
at once. A query goes out from a socket and with an id of its own, and only a reply from the asked address that echoes
id and question is taken: guessing both is what a forger has to do. A truncated reply is asked again over TCP. Queries
alike that are under way together are asked once. Replies are kept for their smallest TTL, `KEEP_MAX_S` at most (one
without records for the SOA's), and their TTLs count down. Source: RFC 1035, RFC 2308 (negative caching), RFC 5452.
"""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import Callable
from random import SystemRandom

from msgspec import Struct

from orchestrator.dns import message
from orchestrator.dns.message import Query

PATIENCE_S = 1.5
KEEP_MAX_S = 30
ENTRIES_MAX = 10_000
UNDER_WAY_MAX = 1_000
PORT = 53

Upstream = tuple[str, int]


class _Kept(Struct, frozen=True):
    reply: bytes
    ttl_offsets: tuple[int, ...]
    at_s: float
    until_s: float


class Forwarder:
    """Asks the upstreams; `now` is the event loop's clock."""

    def __init__(self, upstreams: tuple[Upstream, ...], now: Callable[[], float]) -> None:
        self._upstreams = upstreams
        self._now = now
        self._kept: dict[bytes, _Kept] = {}
        self._under_way: dict[bytes, asyncio.Task[bytes | None]] = {}
        self._random = SystemRandom()

    async def ask(self, query: Query) -> bytes | None:
        """A reply to a question of this name and type, complete with header; None where no upstream answered."""
        key = query.question.lower() + bytes((query.type == 65,))
        if (kept := self._fresh(key)) is not None:
            return kept
        if not self._upstreams:
            return None
        task = self._under_way.get(key)
        if task is None:
            if len(self._under_way) >= UNDER_WAY_MAX:
                return None
            task = asyncio.create_task(self._fetch(query))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._finish(key, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finish(self, key: bytes, task: asyncio.Task[bytes | None]) -> None:
        del self._under_way[key]
        reply = None if task.cancelled() else task.result()
        if reply is None:
            return
        seconds, offsets = lifetime(reply)
        if seconds > 0:
            if len(self._kept) >= ENTRIES_MAX:
                self._kept.clear()
            now = self._now()
            self._kept[key] = _Kept(reply, offsets, now, now + seconds)

    def _fresh(self, key: bytes) -> bytes | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        now = self._now()
        if now >= kept.until_s:
            del self._kept[key]
            return None
        return aged(kept.reply, kept.ttl_offsets, int(now - kept.at_s))

    async def _fetch(self, query: Query) -> bytes | None:
        for upstream in self._upstreams:
            number = self._random.getrandbits(16)
            asked = struct.pack("!6H", number, message.RD, 1, 0, 0, 1) + query.question + _OPT
            try:
                async with asyncio.timeout(PATIENCE_S):
                    reply = await _ask_udp(upstream, asked)
                    if _flags(reply) & message.TC:
                        reply = await _ask_tcp(upstream, asked)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                continue
            if _flags(reply) & 0xF not in (message.SERVFAIL, message.REFUSED, message.NOTIMP) and _is_whole(reply):
                return reply
        return None


_OPT = b"\0" + struct.pack("!HHIH", message.OPT, message.EDNS_BYTES, 0, 0)


def _flags(reply: bytes) -> int:
    return int.from_bytes(reply[2:4], "big")


def answers(asked: bytes, reply: bytes) -> bool:
    """Whether the reply belongs to the query: a response with its id and its question (RFC 5452, section 9.1)."""
    end = len(asked) - len(_OPT)
    return (
        len(reply) >= end
        and reply[:2] == asked[:2]
        and bool(reply[2] & 0x80)
        and reply[4:6] == b"\0\x01"
        and reply[12:end].lower() == asked[12:end].lower()
    )


def _is_whole(reply: bytes) -> bool:
    try:
        list(message.record_spans(reply))
    except (IndexError, struct.error):
        return False
    return True


class _Exchange(asyncio.DatagramProtocol):
    def __init__(self, asked: bytes, reply: asyncio.Future[bytes]) -> None:
        self._asked = asked
        self._reply = reply

    def datagram_received(self, data: bytes, _: object) -> None:
        if not self._reply.done() and answers(self._asked, data):
            self._reply.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self._reply.done():
            self._reply.set_exception(error)


async def _ask_udp(upstream: Upstream, asked: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Exchange(asked, reply), remote_addr=upstream)
    try:
        transport.sendto(asked)
        return await reply
    finally:
        transport.close()


async def _ask_tcp(upstream: Upstream, asked: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*upstream)
    try:
        writer.write(len(asked).to_bytes(2, "big") + asked)
        while True:
            size = int.from_bytes(await reader.readexactly(2), "big")
            reply = await reader.readexactly(size)
            if answers(asked, reply):
                return reply
    finally:
        writer.close()


def lifetime(reply: bytes) -> tuple[int, tuple[int, ...]]:
    """(seconds to keep, offsets of the TTLs): the smallest TTL of the records, or of the SOA's negative TTL."""
    seconds, offsets, has_answer = KEEP_MAX_S, [], False
    negative: int | None = None
    for kind, offset, section in message.record_spans(reply):
        if kind == message.OPT:
            continue
        ttl = int.from_bytes(reply[offset : offset + 4], "big")
        offsets.append(offset)
        seconds = min(seconds, ttl)
        has_answer |= section == 1
        if kind == message.SOA and section == 2:
            size = int.from_bytes(reply[offset + 4 : offset + 6], "big")
            negative = int.from_bytes(reply[offset + 2 + size : offset + 6 + size], "big")
    if not has_answer:
        seconds = 0 if negative is None else min(seconds, negative)
    return seconds, tuple(offsets)


def aged(reply: bytes, ttl_offsets: tuple[int, ...], seconds: int) -> bytes:
    """The reply with its TTLs counted down."""
    if not seconds:
        return reply
    changed = bytearray(reply)
    for offset in ttl_offsets:
        ttl = int.from_bytes(changed[offset : offset + 4], "big")
        changed[offset : offset + 4] = max(0, ttl - seconds).to_bytes(4, "big")
    return bytes(changed)


def adapted(reply: bytes, query: Query, limit_bytes: int) -> bytes:
    """An upstream's reply as the response to this query: its id and question, without the upstream's OPT, cut to what
    the client takes. Upstream is asked with EDNS, so replies may be larger than the client's limit."""
    body = bytearray(reply)
    body[0:2] = query.id.to_bytes(2, "big")
    flags = (_flags(reply) & ~(message.AA | message.RD)) | message.RA | (query.flags & message.RD)
    body[12 : 12 + len(query.question)] = query.question
    _strip_opt(body, reply)
    if len(body) > limit_bytes:
        flags |= message.TC
        del body[12 + len(query.question) :]
        body[6:12] = bytes(6)
    body[2:4] = flags.to_bytes(2, "big")
    if query.has_edns and len(body) + len(_OPT) <= limit_bytes:
        body[10:12] = (int.from_bytes(body[10:12], "big") + 1).to_bytes(2, "big")
        body += _OPT
    return bytes(body)


def _strip_opt(body: bytearray, reply: bytes) -> None:
    """Upstreams put their OPT record last; one in another place is left, which is harmless without EDNS."""
    for kind, offset, _ in message.record_spans(reply):
        size = int.from_bytes(reply[offset + 4 : offset + 6], "big")
        if kind == message.OPT and offset + 6 + size == len(reply):
            del body[offset - 5 :]
            body[10:12] = (int.from_bytes(body[10:12], "big") - 1).to_bytes(2, "big")


def parse_upstream(text: str) -> Upstream:
    """`10.0.0.2`, `10.0.0.2:5353`, `fd00::2`, `[fd00::2]:5353`. ValueError where it is no address."""
    host, port = text, PORT
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = int(rest[1:]) if rest else PORT
    elif text.count(":") == 1:
        host, _, number = text.partition(":")
        port = int(number)
    ipaddress.ip_address(host)
    return host, port
