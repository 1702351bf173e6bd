"""Priority levels and flow schemas as their objects say, put together for the gate.

All objects are digested together whenever one of them changes: each level gets its nominal seats, each schema that
names an existing level takes part in matching, the mandatory ones are imagined where they are missing. A level whose
object is gone serves those that still wait in it, and then goes. Which flow a request belongs to is remembered until
the next digestion.
Pure: *now* is handed in. Source: KEP-1040; k8s.io/apiserver util/flowcontrol, apf_controller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec import Struct, field

from orchestrator.api import meta
from orchestrator.api.histogram import Histogram
from orchestrator.api.kinds.flowcontrol_bootstrap import MANDATORY_LEVELS, MANDATORY_SCHEMAS
from orchestrator.api.meta import Object
from orchestrator.api.wire import Identity
from orchestrator.apiserver.fairness.queueset import QueueSet, Queuing, Turn
from orchestrator.apiserver.fairness.retryafter import RetryAfter
from orchestrator.apiserver.fairness.rules import FlowSchema, in_order, matching
from orchestrator.apiserver.fairness.sharding import deal, flow_hash
from orchestrator.apiserver.fairness.shares import Claim, Seats, current, seats
from orchestrator.apiserver.request import RequestInfo

SEATS_MAX_PART = 0.15  # of its level's nominal seats that one request may take
FLOWS_MAX = 4096
NO_SEATS = Seats(0, 0, 0)
BUCKETS_S = (0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30)
BUCKETS_LENGTH = (0, 10, 25, 50, 100, 250, 500, 1000)
BUCKETS_SEATS = (1, 2, 4, 8, 16, 32, 64, 100)


class Tally(Struct, eq=False):
    """What was counted of one schema in one level. Durations in seconds; waiting ones by whether they were served,
    served ones by whether they were watches. Most requests take one seat and do not wait: those are only counted, and
    `seats` and `waited` are about the others."""

    level: str
    schema: str
    dispatched: int = 0
    at_once: int = 0
    of_one_seat: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # by reason
    waited: dict[bool, Histogram] = field(default_factory=dict)
    took: dict[bool, Histogram] = field(default_factory=dict)
    seats: Histogram = field(default_factory=lambda: Histogram(BUCKETS_SEATS))
    queue_length: Histogram = field(default_factory=lambda: Histogram(BUCKETS_LENGTH))

    def observe(self, of: dict[bool, Histogram], which: bool, seconds: float) -> None:
        found = of.get(which)
        if found is None:
            found = of[which] = Histogram(BUCKETS_S)
        found.observe(seconds)


class LevelSpec(Struct, frozen=True):
    """`borrowing` is the percentage of its nominal seats that a level may borrow, None without limit."""

    is_exempt: bool
    shares: int
    lendable: int
    borrowing: int | None
    queuing: Queuing

    @classmethod
    def of(cls, obj: Object) -> LevelSpec:
        spec = obj.get("spec") or {}
        if spec.get("type") == "Exempt":
            exempt = spec.get("exempt") or {}
            shares, lendable = exempt.get("nominalConcurrencyShares") or 0, exempt.get("lendablePercent") or 0
            return cls(True, shares, lendable, None, Queuing())
        limited = spec.get("limited") or {}
        queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
        return cls(
            False,
            limited.get("nominalConcurrencyShares") or 0,
            limited.get("lendablePercent") or 0,
            limited.get("borrowingLimitPercent"),
            Queuing(queuing.get("queues", 0), queuing.get("handSize", 0), queuing.get("queueLengthLimit", 0)),
        )


class Level(Struct, eq=False):
    """One priority level. `limit`: its seats now; `seats_max`: those one request may take, 0 without such a bound."""

    name: str
    uid: str
    spec: LevelSpec
    queues: QueueSet
    seats: Seats = NO_SEATS
    limit: int = 0
    seats_max: int = 0
    target: float = 0.0
    spent_s: float = 0.0  # on its requests, in this turn of the event loop
    is_wanted: bool = True
    retry: RetryAfter = field(default_factory=RetryAfter)


class Flow(Struct, frozen=True, eq=False):
    """Requests that are treated alike: of one schema, not told apart. `headers` go with each answer."""

    schema: FlowSchema
    level: Level
    distinguisher: str
    hand: tuple[int, ...]
    tally: Tally
    headers: dict[str, str]


class Dangling(Struct, frozen=True):
    """The condition that a FlowSchema should have."""

    status: str
    reason: str
    message: str

    @classmethod
    def of(cls, condition: Object) -> Dangling:
        return cls(condition.get("status") or "", condition.get("reason") or "", condition.get("message") or "")


def dangling(level_name: str, *, exists: bool) -> Dangling:
    start = f'This FlowSchema references the PriorityLevelConfiguration object named "{level_name}"'
    if exists:
        return Dangling("False", "Found", f"{start} and it exists")
    return Dangling("True", "NotFound", f"{start} but there is no such object")


class Levels:
    """`server_limit`: the seats of the server, exempt requests aside."""

    def __init__(self, server_limit: int, now: float) -> None:
        self._server_limit = server_limit
        self.levels: dict[str, Level] = {}
        self.tallies: dict[tuple[str, str], Tally] = {}
        self.fair_fraction = 0.0
        self._schemas: list[FlowSchema] = []
        self._flows: dict[tuple[object, ...], Flow] = {}
        self.digest((), (), now)

    def digest(self, schemas: Iterable[Object], levels: Iterable[Object], now: float) -> list[Turn]:
        """Takes all objects as they are now; returns those that waited and can be served now."""
        found = {meta.name(obj): obj for obj in MANDATORY_LEVELS} | {meta.name(obj): obj for obj in levels}
        for name, obj in found.items():
            spec = LevelSpec.of(obj)
            level = self.levels.get(name)
            if level is None:
                queues = QueueSet(spec.queuing, None if spec.is_exempt else 0, now)
                level = self.levels[name] = Level(name, meta.uid(obj), spec, queues)
            level.uid, level.spec, level.is_wanted = meta.uid(obj), spec, True
        for name, level in list(self.levels.items()):
            level.is_wanted = name in found
            if not level.is_wanted and level.queues.is_idle:
                del self.levels[name]
        taking_part = {meta.name(obj): FlowSchema.of(obj) for obj in (*MANDATORY_SCHEMAS, *schemas)}
        self._schemas = in_order(schema for schema in taking_part.values() if schema.level in found)
        self._flows.clear()
        self._share_out(now)
        return self.adjust(now)

    def _share_out(self, now: float) -> None:
        shares_sum = sum(level.spec.shares for level in self.levels.values())
        for level in self.levels.values():
            spec = level.spec
            level.seats = seats(self._server_limit, spec.shares, shares_sum, spec.lendable, spec.borrowing)
            nominal, hand = level.seats.nominal, spec.queuing.hand_size
            level.seats_max = max(1, min(math.ceil(SEATS_MAX_PART * nominal), nominal // hand)) if hand else 0

    def adjust(self, now: float) -> list[Turn]:
        """Ends a period of demand and deals the seats out anew; returns those that can be served now."""
        limited = [level for level in self.levels.values() if not level.spec.is_exempt]
        exempt = 0
        for level in self.levels.values():
            demand = level.queues.demand.observe(now)
            if level.spec.is_exempt:
                level.limit = max(level.seats.lowest, round(demand.high))
                exempt += level.limit
        claims = [Claim(level.seats, level.queues.demand.last) for level in limited]
        total = sum(level.seats.nominal for level in self.levels.values())
        given, self.fair_fraction = current(total, exempt, claims)
        started: list[Turn] = []
        for level, claim, limit in zip(limited, claims, given, strict=True):
            level.limit, level.target = limit, claim.target
            started += level.queues.configure(level.spec.queuing, limit, now)
        return started

    def flow(self, user: Identity, info: RequestInfo) -> Flow:
        """The flow of a request."""
        key: tuple[object, ...]
        if info.is_resource:
            key = (user.name, user.groups, info.verb, info.resource, info.subresource, info.group, info.namespace)
        else:
            key = (user.name, user.groups, info.verb, info.path)
        found = self._flows.get(key)
        if found is None:
            if len(self._flows) >= FLOWS_MAX:
                self._flows.clear()
            found = self._flows[key] = self._flow(user, info)
        return found

    def _flow(self, user: Identity, info: RequestInfo) -> Flow:
        schema = matching(self._schemas, user, info)
        level = self.levels[schema.level]
        tally = self.tallies.get((level.name, schema.name))
        if tally is None:
            tally = self.tallies[level.name, schema.name] = Tally(level.name, schema.name)
        headers = {
            "x-kubernetes-pf-flowschema-uid": schema.uid,
            "x-kubernetes-pf-prioritylevel-uid": level.uid,
        }
        queuing = level.spec.queuing
        distinguisher = ""
        hand: tuple[int, ...] = (0,) if queuing.queues else ()
        if queuing.queues > 1:
            distinguisher = schema.distinguisher(user, info)
            hand = deal(flow_hash(schema.name, distinguisher), queuing.queues, queuing.hand_size)
        return Flow(schema, level, distinguisher, hand, tally, headers)

    def conditions(self, schemas: Iterable[Object]) -> dict[str, Dangling]:
        """By name, the Dangling condition of each schema that has another now."""
        wrong = {}
        for obj in schemas:
            name = (obj["spec"].get("priorityLevelConfiguration") or {}).get("name") or ""
            level = self.levels.get(name)
            want = dangling(name, exists=level is not None and level.is_wanted)
            conditions = (obj.get("status") or {}).get("conditions") or ()
            have = [Dangling.of(condition) for condition in conditions if condition["type"] == "Dangling"]
            if have != [want]:
                wrong[meta.name(obj)] = want
        return wrong
