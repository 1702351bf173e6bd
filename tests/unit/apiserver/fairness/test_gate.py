"""Requests at the gate of a whole server in memory: who goes ahead, who is refused, what is given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from orchestrator.api.meta import parse_time
from orchestrator.api.resources import FLOWSCHEMAS, LEASES, PRIORITYLEVELCONFIGURATIONS
from orchestrator.api.wire import Identity, Request, Response
from orchestrator.apiserver.fairness import gate as gates
from orchestrator.apiserver.fairness import upkeep
from orchestrator.apiserver.fairness.gate import Gate
from orchestrator.apiserver.fairness.report import Report
from orchestrator.apiserver.handlers import Tables
from orchestrator.apiserver.request import Attributes, RequestInfo, parse
from orchestrator.apiserver.stream import PushStream
from tests.apiserver_fixture import Served, serving
from tests.unit.apiserver.rest import CONFIGMAPS, configmap

AUTHENTICATED = "system:authenticated"
NODE = Identity("system:node:n1", ("system:nodes", AUTHENTICATED))
MANAGER = Identity("system:kube-controller-manager", (AUTHENTICATED,))
FLOOD = Identity("flood", (AUTHENTICATED,))
OTHER = Identity("other", (AUTHENTICATED,))
NOBODY = Identity("odd", ())
NODE_LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"
ELECTION = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/manager"


class Held:
    """A strategy that keeps writes waiting until they are let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.entered = 0

    async def before_write(self, attributes: Attributes) -> None:
        self.entered += 1
        await self.let_go.wait()

    async def after_write(self, attributes: Attributes, *, succeeded: bool) -> None: ...


class Guarded:
    """A server with few seats, and the objects that every cluster has."""

    def __init__(self, served: Served, held: Held) -> None:
        self.served, self.held = served, held

    @property
    def gate(self) -> Gate:
        assert self.served.server.gate is not None
        return self.served.server.gate

    async def send(self, user: Identity, method: str, path: str, body: Any = None, **query: str) -> Response:
        raw = b"" if body is None else orjson.dumps(body)
        request = Request(method, path, list(query.items()), {"content-type": "application/json"}, raw, identity=user)
        return await self.served.server.handle(request)

    def sending(self, user: Identity, method: str, path: str, body: Any = None) -> asyncio.Task[Response]:
        return asyncio.get_running_loop().create_task(self.send(user, method, path, body))

    async def renewing(self, user: Identity, path: str) -> asyncio.Task[Response]:
        """Sends the Lease back as it is, with another transition."""
        namespace, name = path.split("/")[-3::2]
        lease = await self.served.client.get(LEASES, name, namespace)
        lease["spec"] = {"leaseTransitions": (lease.get("spec") or {}).get("leaseTransitions", 0) + 1}
        return self.sending(user, "PUT", path, lease)

    async def turn_over(self) -> None:
        """Until nobody is inside any more."""
        async with asyncio.timeout(10):
            while self.gate.inside:
                await asyncio.sleep(0)


def gate_of(served: Served, seats: int) -> Gate:
    return Gate(served.server.lookup, served.server.core.endpoints, seats, served.server.core.clock)


@pytest_asyncio.fixture
async def guarded() -> AsyncIterator[Guarded]:
    held = Held()
    async with serving(tables=Tables(strategies={"configmaps": held})) as served:
        await upkeep.ensure(served.client, served.server.lookup)
        served.server.gate = gate_of(served, 50)
        for namespace, name in (("kube-node-lease", "n1"), ("kube-system", "manager")):
            await served.client.create(LEASES, {"metadata": {"name": name, "namespace": namespace}})
        yield Guarded(served, held)
        held.let_go.set()


async def test_leases_go_ahead_of_a_flood_of_lists(guarded: Guarded) -> None:
    done: list[str] = []

    def note(name: str, task: asyncio.Task[Response]) -> asyncio.Task[Response]:
        task.add_done_callback(lambda _: done.append(name))
        return task

    flood = [note("list", guarded.sending(FLOOD, "GET", CONFIGMAPS)) for _ in range(200)]
    await asyncio.sleep(0)  # the flood is there before the others come
    renewals = [
        note("node", await guarded.renewing(NODE, NODE_LEASE)),
        note("leader", await guarded.renewing(MANAGER, ELECTION)),
    ]
    assert [(await task).status for task in renewals] == [200, 200]
    await asyncio.sleep(0)
    seats = guarded.gate.levels.levels["global-default"].limit
    assert done.index("node") < 4 * seats and done.index("leader") < 4 * seats, (seats, done)
    answers = {(await task).status for task in flood}
    assert answers <= {200, 429}


async def test_leases_are_written_while_writes_take_all_seats_of_their_level(guarded: Guarded) -> None:
    flood = [guarded.sending(FLOOD, "POST", CONFIGMAPS, configmap(f"c{n}")) for n in range(400)]
    for _ in range(10):
        await asyncio.sleep(0)
    level = guarded.gate.levels.levels["global-default"]
    assert guarded.held.entered == level.limit and level.queues.waiting > 0
    assert (await (await guarded.renewing(NODE, NODE_LEASE))).status == 200
    assert (await (await guarded.renewing(MANAGER, ELECTION))).status == 200
    other = guarded.sending(OTHER, "GET", CONFIGMAPS)  # of the same level: waits, in a queue of its own
    await asyncio.sleep(0)
    assert not other.done()
    guarded.held.let_go.set()
    assert (await other).status == 200
    statuses = [(await task).status for task in flood]
    assert statuses.count(201) > 100 and set(statuses) == {201, 429}  # the hand of the flood is full
    refused = next(task.result() for task in flood if task.result().status == 429)
    assert refused.body == b"Too many requests, please try again later.\n"
    assert int(refused.headers["retry-after"]) >= 1


async def test_every_answer_names_its_schema_and_level(guarded: Guarded) -> None:
    schema = await guarded.served.client.get(FLOWSCHEMAS, "global-default")
    level = await guarded.served.client.get(PRIORITYLEVELCONFIGURATIONS, "global-default")
    for path, status in ((CONFIGMAPS, 200), (f"{CONFIGMAPS}/none", 404)):
        answer = await guarded.send(OTHER, "GET", path)
        assert answer.status == status
        assert answer.headers["x-kubernetes-pf-flowschema-uid"] == schema["metadata"]["uid"]
        assert answer.headers["x-kubernetes-pf-prioritylevel-uid"] == level["metadata"]["uid"]


async def test_a_level_that_rejects_says_so_at_once(guarded: Guarded) -> None:
    limit = guarded.gate.levels.levels["catch-all"].limit
    writes = [guarded.sending(NOBODY, "POST", CONFIGMAPS, configmap(f"n{n}")) for n in range(limit + 1)]
    await asyncio.wait([writes[-1]], timeout=5)
    assert writes[-1].result().status == 429
    assert guarded.gate.levels.tallies["catch-all", "catch-all"].refused == {"concurrency-limit": 1}
    guarded.held.let_go.set()
    assert {(await write).status for write in writes[:-1]} == {201}


async def test_who_waits_too_long_is_refused(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "WAIT_MAX_S", 0.01)
    limit = guarded.gate.levels.levels["global-default"].limit
    writes = [guarded.sending(FLOOD, "POST", CONFIGMAPS, configmap(f"n{n}")) for n in range(limit + 1)]
    await asyncio.wait([writes[-1]], timeout=5)
    assert writes[-1].result().status == 429
    assert guarded.gate.levels.levels["global-default"].queues.waiting == 0
    guarded.held.let_go.set()
    assert {(await write).status for write in writes[:-1]} == {201}


async def test_who_leaves_while_waiting_leaves_the_queue(guarded: Guarded) -> None:
    queues = guarded.gate.levels.levels["global-default"].queues
    limit = guarded.gate.levels.levels["global-default"].limit
    writes = [guarded.sending(FLOOD, "POST", CONFIGMAPS, configmap(f"n{n}")) for n in range(limit + 1)]
    await asyncio.sleep(0)
    assert queues.waiting == 1
    writes[-1].cancel()
    await asyncio.wait([writes[-1]])
    assert queues.waiting == 0 and len(guarded.gate.inside) == limit
    guarded.held.let_go.set()
    await asyncio.gather(*writes[:-1])
    await guarded.turn_over()
    assert queues.is_idle


async def test_a_watch_keeps_its_seats_only_until_it_has_started(guarded: Guarded) -> None:
    answer = await guarded.send(OTHER, "GET", CONFIGMAPS, watch="true")
    assert answer.status == 200 and isinstance(answer.body, PushStream)
    await guarded.turn_over()
    assert guarded.gate.levels.levels["global-default"].queues.is_idle
    took = guarded.gate.levels.tallies["global-default", "global-default"].took
    assert list(took) == [True]
    answer.body.close()


async def test_logs_and_shells_take_no_seats(guarded: Guarded) -> None:
    before = guarded.gate.levels.tallies.keys()
    answer = await guarded.send(OTHER, "GET", "/api/v1/namespaces/default/pods/p/log")
    assert "x-kubernetes-pf-flowschema-uid" not in answer.headers
    assert guarded.gate.levels.tallies.keys() == before


async def test_a_long_list_takes_several_seats_and_a_watched_write_keeps_some(guarded: Guarded) -> None:
    guarded.held.let_go.set()
    for number in range(30):
        await guarded.served.client.create(
            LEASES, {"metadata": {"name": f"l{number}", "namespace": "x", "annotations": {"a": "x" * 40_000}}}
        )
    guarded.served.server.gate = gate = gate_of(guarded.served, 600)
    path = "/apis/coordination.k8s.io/v1/namespaces/x/leases"
    held = gate.enter(OTHER, _info(path), Request("GET", path))
    assert held.work.seats == held.flow.level.seats_max == 8  # 15 % of 49
    one = gate.enter(OTHER, _info(path, fieldSelector="metadata.name=l1"), Request("GET", path))
    assert one.work.seats == 1
    watches = [await guarded.send(OTHER, "GET", path, watch="true", resourceVersion="1") for _ in range(30)]
    write = gate.enter(OTHER, _info(f"{path}/l1", method="PUT"), Request("PUT", path))
    assert (write.work.initial_seats, write.work.final_seats, write.work.linger_s) == (1, 3, 0.005)
    for watch in watches:
        assert isinstance(watch.body, PushStream)
        watch.body.close()
    for passage in (held, one, write):
        gate.leave(passage)
    async with asyncio.timeout(5):
        while not held.flow.level.queues.is_idle:
            await asyncio.sleep(0.001)


def _info(path: str, method: str = "GET", **query: str) -> RequestInfo:
    return parse(method, path, list(query.items()))


async def test_a_new_schema_takes_effect_and_a_lost_level_serves_who_waits(guarded: Guarded) -> None:
    client = guarded.served.client
    limited = {
        "nominalConcurrencyShares": 1,
        "limitResponse": {"type": "Queue", "queuing": {"queues": 1, "handSize": 1}},
    }
    await client.create(
        PRIORITYLEVELCONFIGURATIONS, {"metadata": {"name": "mine"}, "spec": {"type": "Limited", "limited": limited}}
    )
    rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}
    subjects = [{"kind": "User", "user": {"name": "other"}}]
    spec = {
        "priorityLevelConfiguration": {"name": "mine"},
        "matchingPrecedence": 5,
        "rules": [{"subjects": subjects, "resourceRules": [rule]}],
    }
    schema = await client.create(FLOWSCHEMAS, {"metadata": {"name": "mine"}, "spec": spec})
    answer = await guarded.send(OTHER, "GET", CONFIGMAPS)
    assert answer.headers["x-kubernetes-pf-flowschema-uid"] == schema["metadata"]["uid"]
    level = guarded.gate.levels.levels["mine"]
    writes = [guarded.sending(OTHER, "POST", CONFIGMAPS, configmap(f"n{n}")) for n in range(level.limit + 2)]
    await asyncio.sleep(0)
    assert level.queues.waiting == 2
    await client.delete(PRIORITYLEVELCONFIGURATIONS, "mine")
    await asyncio.sleep(0)
    assert "mine" in guarded.gate.levels.levels and not level.is_wanted
    after = await guarded.send(OTHER, "GET", CONFIGMAPS)
    assert after.headers["x-kubernetes-pf-flowschema-uid"] != schema["metadata"]["uid"]
    guarded.held.let_go.set()
    assert {(await write).status for write in writes} == {201}
    await guarded.turn_over()
    await asyncio.sleep(0)
    assert "mine" not in guarded.gate.levels.levels


async def test_what_happens_can_be_seen(guarded: Guarded) -> None:
    limit = guarded.gate.levels.levels["global-default"].limit
    writes = [guarded.sending(FLOOD, "POST", CONFIGMAPS, configmap(f"n{n}")) for n in range(limit + 3)]
    await asyncio.sleep(0)
    report = Report(guarded.gate)
    lines = list(report.metrics())
    labels = '{flow_schema="global-default",priority_level="global-default"}'
    assert f"apiserver_flowcontrol_current_executing_requests{labels} {limit}" in lines
    assert f"apiserver_flowcontrol_current_inqueue_requests{labels} 3" in lines
    assert f'apiserver_flowcontrol_current_limit_seats{{priority_level="global-default"}} {limit}' in lines
    pages = {}
    for path, route in report.routes().items():
        answer = await route(Request("GET", path))
        assert isinstance(answer.body, bytes)
        pages[path.rpartition("dump_")[2]] = answer.body.decode().splitlines()
    shown = next(line.split(",") for line in pages["priority_levels"] if line.startswith("global-default,"))
    assert [cell.strip() for cell in shown[4:6]] == ["3", str(limit)]
    assert pages["priority_levels"][0].startswith("PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, ")
    assert sum(line.startswith("global-default,") for line in pages["requests"]) == limit + 3
    assert len(pages["queues"]) > 1
    guarded.held.let_go.set()
    await asyncio.gather(*writes)


async def test_a_request_inside_is_shown_with_all_that_is_known_of_it(guarded: Guarded) -> None:
    write = guarded.sending(FLOOD, "POST", CONFIGMAPS, configmap("a"))
    await asyncio.sleep(0)
    page = Report(guarded.gate).routes()["/debug/api_priority_and_fairness/dump_requests"]
    answer = await page(Request("GET", "", [("includeRequestDetails", "1")]))
    assert isinstance(answer.body, bytes)
    head, row = ([cell.strip() for cell in line.split(",")] for line in answer.body.decode().splitlines())
    found = dict(zip(head, row, strict=True))
    assert {key: found[key] for key in ("UserName", "Verb", "Resource", "Namespace", "InitialSeats")} == {
        "UserName": "flood", "Verb": "create", "Resource": "configmaps", "Namespace": "default", "InitialSeats": "1",
    }  # fmt: skip
    assert abs(parse_time(found["ArriveTime"]) - parse_time(found["StartTime"])) < 0.001  # by different roundings
    guarded.held.let_go.set()
    await write


class Slow:
    """A clock that each reading takes on, so that every request seems to take 10 ms."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 0.005
        return self.seconds


async def test_a_turn_serves_only_as_much_of_a_level_as_takes_a_moment(guarded: Guarded) -> None:
    """Whoever floods with what takes long is served a little in each turn, others in between."""
    served = guarded.served
    served.server.gate = gate = Gate(
        served.server.lookup, served.server.core.endpoints, 600, served.server.core.clock, Slow()
    )
    turns: list[list[str]] = [[]]

    def note(name: str, task: asyncio.Task[Response]) -> asyncio.Task[Response]:
        task.add_done_callback(lambda _: turns[-1].append(name))
        return task

    assert gate.levels.levels["global-default"].limit > 30
    flood = [note("list", guarded.sending(FLOOD, "GET", CONFIGMAPS)) for _ in range(30)]
    node = note("node", guarded.sending(NODE, "GET", "/api/v1/nodes/n1"))
    async with asyncio.timeout(10):
        while not all(task.done() for task in (*flood, node)):
            await asyncio.sleep(0)
            turns.append([])
    await guarded.turn_over()
    served_in = [turn for turn in turns if turn]
    assert max(turn.count("list") for turn in served_in) <= 8 and len(served_in) >= 4
    assert "node" in served_in[0]
    assert {task.result().status for task in flood} == {200}
    assert gate.levels.levels["global-default"].queues.is_idle


async def test_a_gate_at_rest_does_nothing(guarded: Guarded) -> None:
    """No turn begets another while requests wait for seats that are not free."""
    limit = guarded.gate.levels.levels["global-default"].limit
    writes = [guarded.sending(FLOOD, "POST", CONFIGMAPS, configmap(f"n{n}")) for n in range(limit + 3)]
    for _ in range(10):
        await asyncio.sleep(0)
    meter = guarded.gate.levels.levels["global-default"].queues.meter
    for _ in range(50):
        await asyncio.sleep(0)
    assert guarded.gate.levels.levels["global-default"].queues.meter == meter  # nobody looked at the queues
    guarded.held.let_go.set()
    assert {(await write).status for write in writes} == {201}
