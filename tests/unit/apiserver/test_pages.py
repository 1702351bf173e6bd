"""Pages about the server itself."""

from __future__ import annotations

import asyncio

import orjson
import pytest
import yaml
from msgspec import Struct

from orchestrator.api.status import NotAcceptable
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver import startup
from orchestrator.apiserver.pages import Pages, index
from orchestrator.apiserver.startup import StartUp, goes_on

STRUCTURED = "application/{};v=v1beta1;g=config.k8s.io;as={}"


class Inner(Struct):
    key_files: tuple[str, ...] = ("a", "b")
    is_on: bool = True


class Settings(Struct):
    inner: Inner
    port: int = 6443
    missing: Inner | None = None


@pytest.fixture
def pages() -> Pages:
    times = iter((1_800_000_000.0, 1_800_003_725.0))
    return Pages(Settings(Inner()), lambda: next(times))


def asked(accept: str = "") -> Request:
    return Request("GET", "/statusz", [], {"accept": accept} if accept else {})


def text(answer: Response) -> str:
    assert isinstance(answer.body, bytes)
    return answer.body.decode()


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", "application/json;q=0.9,text/*"])
async def test_people_get_text(pages: Pages, accept: str) -> None:
    answer = await pages.statusz(asked(accept))
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    lines = text(answer).splitlines()
    assert lines[:2] == ["", "apiserver statusz"]
    assert lines[2].startswith("Warning: This endpoint is not meant to be machine parseable")
    assert lines[4:6] == ["Started: Fri Jan 15 08:00:00 UTC 2027", "Up: 1 hr 02 min 05 sec"]


async def test_programs_get_what_they_name(pages: Pages) -> None:
    answer = await pages.statusz(asked(STRUCTURED.format("json", "Statusz")))
    assert answer.headers["content-type"] == "application/json;g=config.k8s.io;v=v1beta1;as=Statusz"
    body = orjson.loads(text(answer))
    assert (body["kind"], body["startTime"], body["uptimeSeconds"]) == ("Statusz", "2027-01-15T08:00:00Z", 3725)
    answer = await pages.flagz(asked(STRUCTURED.format("yaml", "Flagz")))
    assert yaml.safe_load(text(answer)) == {
        "kind": "Flagz", "apiVersion": "config.k8s.io/v1beta1", "metadata": {"name": "apiserver"},
        "flags": {"is-on": "true", "key-files": "[a b]", "port": "6443"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "accept", ["application/json", "text/html", STRUCTURED.format("json", "Flagz"), "application/json;v=v2;as=Statusz"]
)
async def test_nothing_else_is_to_be_had(pages: Pages, accept: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json, application/yaml, text/plain"):
        await pages.statusz(asked(accept))


async def test_flags_as_text(pages: Pages) -> None:
    assert text(await pages.flagz(asked())).splitlines()[3:] == ["is-on=true", "key-files=[a b]", "port=6443"]


def test_the_index_names_paths_groups_and_checks() -> None:
    routes = ["", "/api", "/api/", "/apis", "/apis/", "/healthz/", "/debug/x", "/openapi/v3/"]
    body = orjson.loads(index(routes, [("", "v1"), ("apps", "v1")], ["/livez/ping"]))
    assert body["paths"] == [
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/apis/apps",
        "/apis/apps/v1",
        "/livez/ping",
        "/openapi/v3/",
    ]


async def test_steps_of_the_start_are_checks() -> None:
    start, died = StartUp(), asyncio.get_running_loop().create_task(_dies())
    lasting = asyncio.get_running_loop().create_task(asyncio.Event().wait())
    start.did(startup.CACHES)
    start.did(startup.LEVELS, goes_on(died))
    start.did(startup.REPAIR, goes_on(lasting))  # type: ignore[arg-type]
    await asyncio.wait([died])
    found = {step: check() for step, check in start.checks().items()}
    assert {found[step] for step in startup.CACHES} == {None}
    assert found[startup.LEVELS[0]] == "ended: ValueError('why')"
    assert found[startup.REPAIR[0]] is None
    assert found[startup.ROLES[0]] == "not finished"
    lasting.cancel()


async def _dies() -> None:
    raise ValueError("why")
