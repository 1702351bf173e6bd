"""The decision: what the zone says to a query, or that the query is not ours to answer.

A name of the cluster's domain is always answered here: with records, with NODATA (the name exists, the type does not)
or with NXDOMAIN, both with the SOA so that clients may cache them, and at once, for the search path asks many names
that do not exist. Reverse names are ours only where an address is known. An alias is followed while it stays in the
zone; `Alias` hands back one that leaves it.
"""

from __future__ import annotations

import ipaddress

from msgspec import Struct

from orchestrator.dns import message
from orchestrator.dns.message import Answer, Query, Record
from orchestrator.dns.records import TTL_S
from orchestrator.dns.zone import Zone

_ALIASES_MAX = 8


class Forward(Struct, frozen=True):
    """The query belongs to others."""


class Alias(Struct, frozen=True):
    """The answer so far, and the name outside the zone whose records of the asked type belong behind it."""

    answer: Answer
    target: str


def answer(zone: Zone, query: Query) -> Answer | Alias | Forward:
    if not query.is_standard:
        return Answer(message.NOTIMP, is_authoritative=False)
    if query.klass != message.IN:
        return Answer(message.REFUSED, is_authoritative=False)
    if not zone.contains(query.name):
        return _answer_reverse(zone, query)
    if query.type == message.SOA and query.name == zone.domain:
        return Answer(answers=(zone.authority(),))
    return _answer_forward(zone, query)


def _answer_reverse(zone: Zone, query: Query) -> Answer | Forward:
    found = zone.find(query.name)
    if found is None:
        return Forward()
    return _records(zone, found.get(query.type, ()))


def _answer_forward(zone: Zone, query: Query) -> Answer | Alias:
    followed: tuple[Record, ...] = ()
    name = query.name
    for _ in range(_ALIASES_MAX):
        found = zone.find(name)
        if found is None:
            found = _pod(zone, name)
        if found is None:
            code = message.NOERROR if followed else message.NXDOMAIN
            return Answer(code, answers=followed, authority=(zone.authority(),))
        alias = found.get(message.CNAME)
        if alias is None or query.type in (message.CNAME, message.ANY):
            return _records(zone, followed + _of_type(found, query.type))
        followed += alias
        name = message.read_name(alias[0].data)
        if not zone.contains(name):
            return Alias(Answer(answers=followed), name)
    return Answer(message.SERVFAIL)


def _of_type(found: dict[int, tuple[Record, ...]], kind: int) -> tuple[Record, ...]:
    if kind == message.ANY:
        return tuple(record for records in found.values() for record in records)
    return found.get(kind, ())


def _records(zone: Zone, records: tuple[Record, ...]) -> Answer:
    if not records:
        return Answer(authority=(zone.authority(),))
    targets = dict.fromkeys(message.service_target(record.data) for record in records if record.type == message.SRV)
    additional = [
        address
        for target in targets
        for kind in (message.A, message.AAAA)
        for address in (zone.find(target) or {}).get(kind, ())
    ]
    return Answer(answers=records, additional=tuple(additional))


def _pod(zone: Zone, name: str) -> dict[int, tuple[Record, ...]] | None:
    """`10-244-1-7.namespace.pod.<domain>`: the address that the name spells, in a namespace that exists. No Pod is
    looked up, as upstream's default does not."""
    parts = name.removesuffix(f".pod.{zone.domain}").split(".")
    if not name.endswith(f".pod.{zone.domain}") or len(parts) != 2 or parts[1] not in zone.namespaces:
        return None
    for separator, kind in ((".", message.A), (":", message.AAAA)):
        try:
            packed = ipaddress.ip_address(parts[0].replace("-", separator)).packed
        except ValueError:
            continue
        return {kind: (Record(name, kind, TTL_S, packed),)}
    return None
