"""How many seats a request takes, as far as can be told beforehand.

A list takes one for each BYTES_PER_SEAT that it will hold in memory: from the cache it is written in pieces and counts
CACHED_BYTES_MAX at most, an old revision is read whole. A watch that starts with the present is a list for as long as
it starts. A write is followed by its events: with WATCHES_PER_SEAT watches or more it keeps seats for EVENT_S after it.
Everything else takes one seat. A level of queues bounds what one request may take (`seats_max`; 0: it does not).
Source: KEP-1040, "Support for LIST and mutating requests"; k8s.io/apiserver util/flowcontrol/request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from orchestrator.api.wire import Request
from orchestrator.apiserver.fairness.queueset import ONE_SEAT, Work
from orchestrator.apiserver.options import EXACT, is_true
from orchestrator.apiserver.request import RequestInfo
from orchestrator.apiserver.resourcecache import ResourceCache

BYTES_PER_SEAT = 100_000
CACHED_BYTES_MAX = 1_000_000
WATCHES_PER_SEAT = 10
EVENT_S = 0.005
LIST_SEATS_MAX = 100
WRITE_SEATS_MAX = 10
WRITES = ("create", "update", "patch", "delete")


def estimate(info: RequestInfo, request: Request, cache: ResourceCache | None, seats_max: int) -> Work:
    """`cache`: all objects of the resource; None where it is another server's."""
    if cache is None:
        return ONE_SEAT
    if info.verb in WRITES:
        return _of_write(info, cache, seats_max)
    if info.verb in ("list", "watch") and cache.entries:
        return _of_list(info, request, cache, seats_max)
    return ONE_SEAT


def _of_write(info: RequestInfo, cache: ResourceCache, seats_max: int) -> Work:
    watches = cache.interested(info.namespace, info.name)
    if watches < WATCHES_PER_SEAT or info.subresource == "token":
        return ONE_SEAT
    seats = math.ceil(watches / WATCHES_PER_SEAT)
    # The same work on fewer seats, for longer: a wide request would keep seats empty until it fits.
    return Work(1, seats, EVENT_S).within(_bounded(WRITE_SEATS_MAX, seats_max))


def _of_list(info: RequestInfo, request: Request, cache: ResourceCache, seats_max: int) -> Work:
    query = dict(reversed(request.query))
    revision, continued = query.get("resourceVersion", ""), query.get("continue", "")
    if info.verb == "watch" and revision not in ("", "0") and not is_true(query.get("sendInitialEvents", "")):
        return ONE_SEAT
    count = len(cache.entries)
    limit = query.get("limit", "")
    wanted = min(count, int(limit) or count) if limit.isdecimal() else count
    if info.name:
        wanted = 1
    size_bytes = wanted * cache.size_bytes / count
    if info.verb == "watch" or _is_cached(query, revision, continued):
        size_bytes = min(size_bytes, CACHED_BYTES_MAX)
    elif query.get("labelSelector") or query.get("fieldSelector"):
        size_bytes = max(size_bytes, cache.size_bytes / 2)
    seats = min(math.ceil(size_bytes / BYTES_PER_SEAT), _bounded(LIST_SEATS_MAX, seats_max))
    return Work(seats) if seats > 1 else ONE_SEAT


def _is_cached(query: Mapping[str, str], revision: str, continued: str) -> bool:
    """Whether a list is answered from the present, not from an old revision."""
    if query.get("resourceVersionMatch") == EXACT or continued:
        return False
    is_old_exact = "limit" in query and revision not in ("", "0") and "resourceVersionMatch" not in query
    return not is_old_exact


def _bounded(limit: int, seats_max: int) -> int:
    return min(limit, seats_max) if seats_max else limit
