"""Connections (exec, attach, port-forward, proxy): what admission is shown of one."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.meta import Object
from orchestrator.api.status import Forbidden
from orchestrator.apiserver.handlers import Call, Tables
from orchestrator.apiserver.request import Attributes
from tests.apiserver_fixture import serving
from tests.unit.apiserver.rest import PODS, call, pod


class Recorder:
    """Notes what it is asked about, and refuses connections."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Object | None]] = []

    async def mutate(self, attributes: Attributes) -> None:
        """Changes nothing."""

    async def validate(self, attributes: Attributes) -> None:
        self.seen.append((attributes.operation, attributes.subresource, attributes.object))
        if attributes.operation == "CONNECT":
            raise Forbidden("no connections")


async def _answered(call: Call) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "status": "Success"}


SUBRESOURCES = ("attach", "exec", "portforward", "proxy", "log")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("path", "options"),
    [
        (
            "attach?container=c&stdin=true&tty=false",
            {"kind": "PodAttachOptions", "apiVersion": "v1", "stdin": True, "container": "c"},
        ),
        (
            "exec?command=ls&command=-l&stdout=1",
            {"kind": "PodExecOptions", "apiVersion": "v1", "stdout": True, "command": ["ls", "-l"]},
        ),
        ("portforward?ports=80,81", {"kind": "PodPortForwardOptions", "apiVersion": "v1", "ports": [80, 81]}),
        ("proxy/a/b", {"kind": "PodProxyOptions", "apiVersion": "v1", "path": "/a/b"}),
    ],
    ids=["attach", "exec", "port-forward", "proxy"],
)
async def test_a_connection_is_one_whatever_its_method(method: str, path: str, options: dict[str, Any]) -> None:
    recorder = Recorder()
    tables = Tables(handlers={("pods", name): _answered for name in SUBRESOURCES})
    async with serving(tables=tables, admission=recorder) as served:
        await call(served, "POST", PODS, pod("p"))
        code, answer = await call(served, method, f"{PODS}/p/{path}")
        assert (code, answer["message"]) == (403, "no connections")
        name = path.partition("?")[0].partition("/")[0]
        assert recorder.seen[1:] == [("CONNECT", name, options)]


async def test_reading_a_log_is_no_connection() -> None:
    recorder = Recorder()
    async with serving(tables=Tables(handlers={("pods", "log"): _answered}), admission=recorder) as served:
        await call(served, "POST", PODS, pod("p"))
        assert (await call(served, "GET", f"{PODS}/p/log"))[0] == 200
        assert len(recorder.seen) == 1
