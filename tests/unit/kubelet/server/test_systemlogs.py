"""The node's own logs: what is shown, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from orchestrator.api import status
from orchestrator.kubelet.server.systemlogs import PATTERN, SystemLogs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "log"
    (found / "pods").mkdir(parents=True)
    (found / "pods" / "a&b.log").write_text("said\n")
    (found / "kern.log").write_text("booted\n")
    (tmp_path / "secret").write_text("no")
    (found / "way-out").symlink_to(tmp_path / "secret")
    return found


@web.middleware
async def told(request: web.Request, handler: web.RequestHandler) -> web.StreamResponse:  # type: ignore[type-arg]
    try:
        return await handler(request)  # type: ignore[operator,no-any-return]
    except status.ApiError as error:
        return web.Response(status=error.status_code, text=error.message)


@pytest.mark.parametrize(
    ("path", "code", "shown"),
    [
        ("/logs/", 200, '<a href="kern.log">kern.log</a>\n<a href="pods/">pods/</a>\n<a href="way-out">way-out</a>'),
        ("/logs/pods/", 200, '<a href="a%26b.log">a&amp;b.log</a>'),
        ("/logs/kern.log", 200, "booted"),
        ("/logs/pods/a%26b.log", 200, "said"),
        ("/logs/way-out", 404, "page not found"),
        ("/logs/..%2Fsecret", 404, "page not found"),
        ("/logs/none", 404, "page not found"),
    ],
)
async def test_what_is_shown(root: Path, path: str, code: int, shown: str) -> None:
    application = web.Application(middlewares=[told])  # type: ignore[list-item]
    application.router.add_get(PATTERN, SystemLogs(root).get)
    async with TestClient(TestServer(application)) as client, client.get(path) as answer:
        assert (answer.status, shown in await answer.text()) == (code, True)


async def test_a_folder_without_its_slash_is_led_to_it(root: Path) -> None:
    application = web.Application()
    application.router.add_get(PATTERN, SystemLogs(root).get)
    async with TestClient(TestServer(application)) as client, client.get("/logs/pods") as answer:
        assert answer.url.path == "/logs/pods/"
        assert "a&amp;b.log" in await answer.text()
