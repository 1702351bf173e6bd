"""The answers recorded of a genuine kube-apiserver, asked again of the whole server: TLS identity, admission, store.

The unit tests replay them through the rules alone; here nothing in between may change what a client is told.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson

from orchestrator.api.resources import NAMESPACES, SERVICEACCOUNTS
from orchestrator.api.wire import Request
from orchestrator.client.client import Client
from tests.unit.api.replay import answer_of
from tests.whole_server import whole_server

CASES = Path(__file__).parents[2] / "unit" / "api" / "cases"
WARNING = re.compile(r'299 - ("(?:[^"\\]|\\.)*")')


async def send(client: Client, step: dict[str, Any]) -> tuple[int, Any, list[str]]:
    path, _, query = step["path"].partition("?")
    body = step.get("text", "").encode() or (orjson.dumps(step["body"]) if "body" in step else b"")
    headers = {"content-type": step.get("type", "application/json"), "user-agent": "probe"}
    request = Request(step["method"], path, parse_qsl(query, keep_blank_values=True), headers, body)
    answer = await client.request(request)
    assert isinstance(answer.body, bytes)
    warnings = [json.loads(text) for text in WARNING.findall(answer.headers.get("warning", ""))]
    return answer.status, orjson.loads(answer.body) if answer.body else {}, warnings


async def clear(client: Client, made: list[str]) -> None:
    bare = {"metadata": {"finalizers": None}}
    for path in reversed(made):
        await send(client, {"method": "PATCH", "path": path, "type": "application/merge-patch+json", "body": bare})
        await send(client, {"method": "DELETE", "path": f"{path}?gracePeriodSeconds=0&propagationPolicy=Background"})


async def told(client: Client, case: dict[str, Any]) -> list[tuple[Any, Any]]:
    """(answer, recorded answer) of a case's steps that differ."""
    made: list[str] = []
    differences = []
    for step in case["steps"]:
        code, body, warnings = await send(client, step)
        if code == 201 and "dryRun" not in step["path"] and body["kind"] != "Status":
            base = step["path"].partition("?")[0]
            made.append(base if step["method"] == "PATCH" else f"{base}/{body['metadata']['name']}")
        if "answer" in step:
            answer = json.loads(json.dumps(answer_of(code, body, warnings, whole=case.get("whole", False))))
            if answer != step["answer"]:
                differences.append((answer, step["answer"]))
    await clear(client, made)
    return differences


async def test_the_whole_server_answers_as_recorded(tmp_path: Path) -> None:
    cases = [case for file in sorted(CASES.glob("*.json")) for case in json.loads(file.read_text())]
    different = {}
    async with whole_server(tmp_path) as server:
        await server.admin.create(NAMESPACES, {"metadata": {"name": "case"}})
        await server.admin.create(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": "case"}})
        for case in cases:
            if "table" not in case and (found := await told(server.admin, case)):
                different[case["name"]] = found
    assert different == {}
