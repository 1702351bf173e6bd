"""A campaign: so many random requests to one server, and the judgement on each answer.

A fault is an answer that is no Kubernetes answer: 500 for what the server did not foresee, a body that does not parse,
an error in the server's log, or an exception out of it. `check_lists` then asks for all objects in every form, since
something stored that cannot be shown is a fault too. Memory is the process's own, in MiB.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import orjson

from orchestrator.api.resources import NAMESPACES, SERVICEACCOUNTS
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver import yaml_text
from orchestrator.apiserver.encoding import JSON, PROTOBUF, YAML
from orchestrator.apiserver.protobuf.decoding import decode
from orchestrator.apiserver.protobuf.wire import fields
from orchestrator.apiserver.stream import PushStream
from orchestrator.client.client import Client
from tests.apiserver_fixture import ADMIN
from tests.fuzz.requests import Requests, shown
from tests.whole_server import WholeServer

ROUND = 1000  # inputs in one namespace, before all is cleared away
ANSWER_LIMIT_S = 60  # far more than any takes, so that one that hangs is a fault
UNFORESEEN = "Internal error occurred: the request could not be carried out"
# What kube-apiserver answers with 500 to a client's fault: errors of its patches and conversions that are no Status.
UPSTREAMS_OWN = (
    "failed to create typed patch object (",
    "failed to convert new object (",
    "unknown patch type: ",
    "merging lists cannot yet be specified",
    "map: map[",
    "expected a ",
    "The order in patch list:",
    "cannot merge lists without merge key",
    "resourceVersion should not be set on objects to be created",
    "unable to find api field in struct ",
    "failed to create typed live object (",
    "failed to convert to unversioned (",
    "strconv.ParseUint: parsing ",
)
# What is answered in plain text, as upstream does it: by priority and fairness (a random level may leave
# somebody without seats), and where nothing is served.
PLAIN = ((429, b"Too many requests, please try again later.\n"), (404, b"404 page not found\n"))
FORMS = (
    JSON,
    PROTOBUF,
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json",
)


@dataclass
class Outcome:
    codes: Counter[int] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)  # what went wrong → the requests that showed it
    slowest: list[tuple[float, str]] = field(default_factory=list)
    memory_before_mib: float = 0.0
    memory_after_mib: float = 0.0

    def fault(self, what: str, request: Request) -> None:
        self.faults.setdefault(what, []).append(shown(request))

    @property
    def grown_mib(self) -> float:
        return self.memory_after_mib - self.memory_before_mib


class _Errors(logging.Handler):
    """What is logged as an error while it listens."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        where = ""
        if record.exc_info and record.exc_info[1] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            error = "".join(traceback.format_exception_only(record.exc_info[1]))
            where = f": {error.strip()[:200]} at " + " < ".join(
                f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
                for frame in frames[: -len(frames) - 1 : -1][:4]
            )
        self.found.append(f"{record.name}: {record.getMessage()}{where}")

    def take(self) -> list[str]:
        found, self.found = self.found, []
        return found


@contextmanager
def errors_logged() -> Iterator[_Errors]:
    handler = _Errors()
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger().removeHandler(handler)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def run(server: WholeServer, count: int, seed: int, faults_max: int = 50) -> Outcome:
    """Stops early at `faults_max`."""
    outcome = Outcome()
    source = Requests(Random(seed), "")
    with errors_logged() as errors:
        for number in range(count):
            if number % ROUND == 0:
                if number:
                    await check_lists(server, outcome)
                await _clear(server, source)
                source.namespace = await _new_namespace(server.admin, f"fuzz-{number // ROUND}")
                if number == ROUND or count <= ROUND:  # the first round fills the caches that everything needs
                    outcome.memory_before_mib = resident_mib()
            request = source.next()
            await _judge(server, source, request, outcome, errors)
            if len(outcome.faults) >= faults_max:
                break
        await check_lists(server, outcome)
        await _clear(server, source)
        outcome.memory_after_mib = resident_mib()
    return outcome


async def _judge(server: WholeServer, source: Requests, request: Request, outcome: Outcome, errors: _Errors) -> None:
    start = time.perf_counter()
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            answer = await server.api.handle(request)
        body = await _parsed(answer)
    except Exception as error:
        outcome.fault(f"raised {error!r}", request)
        errors.take()
        return
    took_s = time.perf_counter() - start
    outcome.codes[answer.status] += 1
    outcome.slowest = sorted([*outcome.slowest, (took_s, shown(request, 200))], reverse=True)[:5]
    logged = errors.take()
    if logged or (isinstance(body, dict) and body.get("message") == UNFORESEEN):
        outcome.fault(f"answered {answer.status}, logged {logged}", request)
    elif answer.status == 500 and not str(body.get("message")).startswith(UPSTREAMS_OWN):
        outcome.fault(f"answered 500: {answer.body!r:.300}", request)
    elif (
        answer.status >= 400
        and (answer.status, answer.body) not in PLAIN
        and request.path.startswith("/api")
        and not (isinstance(body, dict) and body.get("kind") == "Status")
    ):
        outcome.fault(f"answered {answer.status} with no Status: {answer.body!r:.300}", request)
    if answer.status in (200, 201):
        source.remember(request, body)


async def _parsed(answer: Response) -> Any:
    """The answer's body as data, in whatever encoding it is; of a watch the type of each event so far."""
    body, kind = answer.body, answer.headers.get("content-type", "").partition(";")[0]
    if isinstance(body, PushStream):
        body.close()
        body = b"".join([piece async for piece in body])
        return [orjson.loads(line)["type"] for line in body.splitlines()] if kind == JSON else list(_frames(body))
    if not isinstance(body, bytes) or not body:
        return None
    if kind == PROTOBUF:
        return decode(body)
    if kind == YAML:
        return yaml_text.load(body)
    return orjson.loads(body) if kind == JSON else None


def _frames(body: bytes) -> Iterator[bytes]:
    while body:
        size = int.from_bytes(body[:4], "big")
        assert len(body) >= size + 4
        yield dict(fields(body[4 : size + 4]))[1]  # type: ignore[misc]
        body = body[size + 4 :]


async def check_lists(server: WholeServer, outcome: Outcome) -> None:
    """What was let in can be shown: every resource, in every form."""
    for endpoint in list(server.api.core.endpoints.values()):
        if "list" not in endpoint.resource.verbs:
            continue
        for form in FORMS:
            if form == PROTOBUF and endpoint.resource.is_custom:
                continue  # nobody knows its field numbers
            request = Request("GET", endpoint.resource.path(), headers={"accept": form}, identity=ADMIN)
            answer = await server.api.handle(request)
            if answer.status != 200:
                outcome.fault(f"answered {answer.status}: {answer.body!r:.300}", request)
            await _parsed(answer)


async def _new_namespace(client: Client, name: str) -> str:
    await client.create(NAMESPACES, {"metadata": {"name": name}})
    await client.create(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": name}})
    return name


async def _clear(server: WholeServer, source: Requests) -> None:
    """Deletes all that was made, whatever holds it: policies first, since they may forbid the rest."""
    source.forget()
    endpoints = sorted(
        server.api.core.endpoints.values(), key=lambda endpoint: "admission" not in endpoint.resource.group
    )
    for endpoint in endpoints:
        row = endpoint.resource
        if "delete" not in row.verbs or row.plural in ("namespaces", "apiservices", "servicecidrs"):
            continue
        for entry in list(endpoint.cache.entries.values()):
            if row.namespaced and not entry.namespace.startswith("fuzz-"):
                continue
            path = row.path(entry.namespace, entry.name)
            for _ in range(2):
                await server.api.handle(
                    Request(
                        "DELETE",
                        path,
                        [("gracePeriodSeconds", "0"), ("propagationPolicy", "Background")],
                        {},
                        identity=ADMIN,
                    )
                )
                if endpoint.cache.entries.get(entry.key) is None:
                    break
                bare = b'{"metadata":{"finalizers":null}}'
                headers = {"content-type": "application/merge-patch+json"}
                await server.api.handle(Request("PATCH", path, [], headers, bare, ADMIN))
    await server.api.core.store.compact(server.api.core.store.revision)
