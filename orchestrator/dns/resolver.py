"""The resolver: bytes of a query in, bytes of the response out, from the zone or from upstream.

`resolve_now` answers without waiting, from the packed answers or the zone; None means that upstream must be asked,
which `resolve` does. No socket is known here.
"""

from __future__ import annotations

from orchestrator.dns import forward, message
from orchestrator.dns.answer import Alias, Forward, answer
from orchestrator.dns.forward import Forwarder
from orchestrator.dns.message import Answer, MalformedError, Query, Record
from orchestrator.dns.packed import PackedAnswers
from orchestrator.dns.records import TTL_S
from orchestrator.dns.zone import Zone


class Resolver:
    """One for each transport's limit: `limit_bytes` caps every response (0: what the query's EDNS says)."""

    def __init__(self, zone: Zone, forwarder: Forwarder, limit_bytes: int = 0) -> None:
        self.zone = zone
        self.packed = PackedAnswers()
        self._forwarder = forwarder
        self._limit_bytes = limit_bytes

    def resolve_now(self, data: bytes) -> bytes | None:
        """The response; b"" where none must be sent; None where upstream has to be asked."""
        hit = self.packed.hits.get(data[2:])
        if hit is not None:
            return data[:2] + next(hit)
        try:
            query = message.read_query(data)
            decided = answer(self.zone, query)
            if isinstance(decided, Answer):
                return self.packed.put(data, query, decided, self._limit_of(query))
        except MalformedError:
            return message.write_error(data, message.FORMERR) or b""
        return None

    async def resolve(self, data: bytes) -> bytes:
        """For what `resolve_now` left open."""
        query = message.read_query(data)
        limit_bytes = self._limit_of(query)
        decided = answer(self.zone, query)
        if isinstance(decided, Alias):
            return await self._follow(query, decided, limit_bytes)
        if isinstance(decided, Forward):
            reply = await self._forwarder.ask(query)
            if reply is not None:
                return forward.adapted(reply, query, limit_bytes)
            decided = Answer(message.SERVFAIL, is_authoritative=False)
        return message.write_response(query, decided, limit_bytes)

    async def _follow(self, query: Query, alias: Alias, limit_bytes: int) -> bytes:
        """The alias, and behind it the target's addresses as upstream gives them; alone where upstream is silent."""
        question = message.encode_name(alias.target) + query.question[-4:]
        reply = await self._forwarder.ask(Query(0, message.RD, alias.target, query.type, query.klass, question))
        found = message.read_answers(reply, query.type) if reply is not None else []
        known = tuple(Record(alias.target, query.type, min(ttl, TTL_S), data) for ttl, data in found)
        return message.write_response(query, Answer(answers=alias.answer.answers + known), limit_bytes)

    def _limit_of(self, query: Query) -> int:
        return self._limit_bytes or query.limit_bytes
