"""Encoded answers, kept until the zone changes: what makes the usual query cost one dictionary look-up.

The key is a query's bytes without its id, so nothing is parsed on a hit; the value gives the response's bytes without
its id. Where a name has several addresses there is one encoding for each rotation of them, handed out in turn, so that
clients which take the first spread over all. The number of entries is bounded: names that do not exist are asked too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

from msgspec.structs import replace

from orchestrator.dns import message
from orchestrator.dns.message import Answer, Query

ENTRIES_MAX = 16_384
ROTATIONS_MAX = 8


class PackedAnswers:
    """`hits` may be read directly by the receive path: `next(hits[query[2:]])`."""

    def __init__(self) -> None:
        self.hits: dict[bytes, Iterator[bytes]] = {}

    def clear(self) -> None:
        self.hits.clear()

    def put(self, data: bytes, query: Query, answer: Answer, limit_bytes: int) -> bytes:
        """Encode and keep; returns the response to this query."""
        if len(self.hits) >= ENTRIES_MAX:
            self.hits.clear()
        variants = [message.write_response(query, turned, limit_bytes)[2:] for turned in rotations(answer)]
        entry = cycle(variants)
        self.hits[data[2:]] = entry
        return data[:2] + next(entry)


def rotations(answer: Answer) -> list[Answer]:
    """The answer with its address records turned round, each as often as the other; others keep their order."""
    fixed = tuple(record for record in answer.answers if record.type not in (message.A, message.AAAA))
    turning = answer.answers[len(fixed) :] if answer.answers[: len(fixed)] == fixed else ()
    steps = min(len(turning), ROTATIONS_MAX)
    if steps < 2:
        return [answer]
    shifts = [step * len(turning) // steps for step in range(steps)]
    return [replace(answer, answers=fixed + turning[shift:] + turning[:shift]) for shift in shifts]
