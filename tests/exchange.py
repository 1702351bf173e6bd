"""Asking an API server the steps of a case, over any client: for recording answers, replaying them, and comparing two.

A case is {"name", "whole": compare objects too, "every": each step has an answer, "steps": [{"method", "path", "type"
(media type, JSON by default), "accept", "body" or "text", "until"}]}. In paths and bodies `@resourceVersion` stands for
the revision of the object last answered and `@continue` for the token of the list last answered. A step with "until" is
asked again until that condition of its object is True: definitions are established in the background.

`prepare` makes what cases find: the namespace `case`, its service account, and the custom kinds of `definitions.yaml`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote

import yaml

from orchestrator.api.wire import Request
from orchestrator.client.client import Client

DEFINITIONS = Path(__file__).parent / "definitions.yaml"
DEFINITION_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
JSON_TYPE = "application/json"
MERGE_PATCH = "application/merge-patch+json"
MANAGER = "probe"  # the user agent, which names the field manager
# One identity whatever the kubeconfig's is, for a server may say who asked.
IDENTITY = {"user-agent": MANAGER, "impersonate-user": "probe", "impersonate-group": "system:masters"}
SETTLE_TIMEOUT_S = 60
NO_ANSWER = 0  # a code: the server closed the connection
_WARNING = re.compile(r'299 \S+ ("(?:[^"\\]|\\.)*")')
Step = dict[str, Any]
Case = dict[str, Any]


class Answer(NamedTuple):
    code: int
    body: Any
    warnings: list[str]


class Seen:
    """What placeholders stand for."""

    def __init__(self) -> None:
        self.revision = "1"
        self.token = ""

    def fill(self, text: str) -> str:
        return text.replace("@resourceVersion", self.revision).replace("@continue", quote(self.token))

    def note(self, body: Any) -> None:
        found = body.get("metadata") if isinstance(body, dict) else None
        if isinstance(found, dict):
            self.revision = found.get("resourceVersion") or self.revision
            self.token = found.get("continue") or self.token


async def ask(client: Client, step: Step, seen: Seen | None = None) -> Answer:
    seen = seen or Seen()
    path, _, query = seen.fill(step["path"]).partition("?")
    body = step["text"] if "text" in step else json.dumps(step["body"], separators=(",", ":")) if "body" in step else ""
    headers = {"content-type": step.get("type", JSON_TYPE), "accept": step.get("accept", JSON_TYPE)}
    headers |= IDENTITY
    pairs = parse_qsl(query, keep_blank_values=True)
    try:
        answer = await client.request(Request(step["method"], path, pairs, headers, seen.fill(body).encode()))
    except ConnectionError as error:
        return Answer(NO_ANSWER, {"message": str(error)}, [])
    assert isinstance(answer.body, bytes)
    warnings = [json.loads(text) for text in _WARNING.findall(answer.headers.get("warning", ""))]
    found = Answer(answer.status, _parsed(answer.body), warnings)
    seen.note(found.body)
    return found


def _parsed(body: bytes) -> Any:
    """A Status or an object; the rims of kube-apiserver answer with text."""
    try:
        return json.loads(body or b"{}")
    except json.JSONDecodeError:
        return {"message": body.decode().strip()}


async def perform(client: Client, case: Case) -> AsyncIterator[tuple[Step, Answer]]:
    """The answers to a case's steps, one by one; in the end what the steps made is taken away."""
    made: list[str] = []
    seen = Seen()
    try:
        for step in case["steps"]:
            answer = await ask(client, step, seen)
            if "until" in step:
                answer = await _settled(client, step, answer)
            made += _made(step, answer)
            yield step, answer
    finally:
        for path in reversed(made):
            await remove(client, path)


def _made(step: Step, answer: Answer) -> list[str]:
    path, _, query = step["path"].partition("?")
    name = (answer.body.get("metadata") or {}).get("name") if isinstance(answer.body, dict) else None
    if answer.code != 201 or not name or "dryRun" in query or answer.body.get("kind") == "Status":
        return []
    if path.rpartition("/")[2] in ("binding", "bindings", "eviction", "token"):
        return []
    if step["method"] == "POST":
        return [f"{path}/{name}"]
    return [re.sub(r"/(status|scale)$", "", path)]  # upstream makes some objects by an apply of their status


async def _settled(client: Client, step: Step, answer: Answer) -> Answer:
    deadline = asyncio.get_running_loop().time() + SETTLE_TIMEOUT_S
    while answer.code < 400 and not _has_condition(answer.body, step["until"]):
        assert asyncio.get_running_loop().time() < deadline, f"{step['path']}: never {step['until']}"
        await asyncio.sleep(0.05)
        answer = await ask(client, step)
    return answer


def _has_condition(obj: Any, kind: str) -> bool:
    found = ((obj.get("status") or {}).get("conditions") or ()) if isinstance(obj, dict) else ()
    return any(condition["type"] == kind and condition["status"] == "True" for condition in found)


async def remove(client: Client, path: str) -> None:
    """Deletes an object at once, whoever would like to be asked first."""
    bare = {"metadata": {"finalizers": None}}
    for _ in range(2):  # what a stored object's faults keep from being patched is deleted first, what is held is freed
        await ask(client, {"method": "PATCH", "path": path, "type": MERGE_PATCH, "body": bare})
        last = await ask(
            client, {"method": "DELETE", "path": f"{path}?gracePeriodSeconds=0&propagationPolicy=Background"}
        )
        if last.code in (404, 405):  # gone, or a review, which was never kept
            return
    if re.fullmatch(r"/api/v1/namespaces/[^/]+", path):
        name = path.rpartition("/")[2]
        await ask(client, {"method": "PUT", "path": f"{path}/finalize", "body": {"metadata": {"name": name}}})
    if path.startswith(DEFINITION_PATH):
        deadline = asyncio.get_running_loop().time() + SETTLE_TIMEOUT_S
        while (await ask(client, {"method": "GET", "path": path})).code != 404:
            assert asyncio.get_running_loop().time() < deadline, f"{path}: never gone"
            await asyncio.sleep(0.05)
    elif "/namespaces/case" in path:
        left = await ask(client, {"method": "GET", "path": path})
        assert left.code == 404, (path, last, left)


async def prepare(client: Client) -> None:
    await ask(client, {"method": "POST", "path": "/api/v1/namespaces", "body": {"metadata": {"name": "case"}}})
    account = {"metadata": {"name": "default"}}
    await ask(client, {"method": "POST", "path": "/api/v1/namespaces/case/serviceaccounts", "body": account})
    for definition in yaml.safe_load_all(DEFINITIONS.read_text()):
        made = await ask(client, {"method": "POST", "path": DEFINITION_PATH, "body": definition})
        assert made.code in (201, 409), made.body
        path = f"{DEFINITION_PATH}/{definition['metadata']['name']}"
        established = {"method": "GET", "path": path, "until": "Established"}
        await _settled(client, established, await ask(client, established))
