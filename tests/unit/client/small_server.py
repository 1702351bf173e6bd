"""A few dozen lines of API server for the client's tests: objects in a dict, a log of events, watches on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from orchestrator.api import status
from orchestrator.api.wire import Request, Response


class SmallServer:
    """Serves list, watch, get, create, update, merge patch and delete of any collection path, without selection."""

    def __init__(self, *, streams_lists: bool = True) -> None:
        self.revision = 100
        self.objects: dict[str, dict[str, Any]] = {}
        self.log: list[tuple[int, str, str, dict[str, Any]]] = []
        self.compacted = 0
        self.requests: list[Request] = []
        self.answers: list[Response | Exception] = []  # given before anything else
        self.streams_lists = streams_lists
        self.changed = asyncio.Condition()
        self.cut = 0  # raised to end all watches

    def put(self, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        self.revision += 1
        kind = "MODIFIED" if path in self.objects else "ADDED"
        obj["metadata"]["resourceVersion"] = str(self.revision)
        self.objects[path] = json.loads(json.dumps(obj))
        self.log.append((self.revision, kind, path, self.objects[path]))
        return obj

    def remove(self, path: str) -> dict[str, Any]:
        self.revision += 1
        gone = self.objects.pop(path)
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.revision)}}
        self.log.append((self.revision, "DELETED", path, gone))
        return gone

    async def wake(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def handle(self, request: Request) -> Response:
        self.requests.append(request)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        try:
            found = self._serve(request)
        except status.ApiError as error:
            return Response(error.status_code, {}, json.dumps(error.to_status()).encode())
        await self.wake()
        return found

    def _serve(self, request: Request) -> Response:
        path = request.path
        if request.method == "GET" and request.param("watch"):
            return self._watch(request)
        if request.method == "GET" and path not in self.objects and path.endswith("s"):
            items = [obj for key, obj in self.objects.items() if key.startswith(path + "/")]
            return self._json({"items": items, "metadata": {"resourceVersion": str(self.revision)}})
        body = json.loads(request.body) if request.body else {}
        if request.method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                raise status.already_exists("", "things", body["metadata"]["name"])
            return self._json(self.put(path, body), 201)
        if path not in self.objects:
            raise status.not_found("", "things", path.rsplit("/", 1)[1])
        if request.method == "PUT":
            seen = body["metadata"].get("resourceVersion")
            if seen and seen != self.objects[path]["metadata"]["resourceVersion"]:
                raise status.conflict("", "things", body["metadata"]["name"], "the object has been modified")
            return self._json(self.put(path, body))
        if request.method == "PATCH":
            return self._json(self.put(path, {**self.objects[path], **body}))
        if request.method == "DELETE":
            return self._json(self.remove(path))
        return self._json(self.objects[path])

    @staticmethod
    def _json(body: dict[str, Any], code: int = 200) -> Response:
        return Response(code, {"content-type": "application/json"}, json.dumps(body).encode())

    def _watch(self, request: Request) -> Response:
        if request.param("sendInitialEvents"):
            if not self.streams_lists:
                raise status.invalid("", "ListOptions", "", [status.Cause("sendInitialEvents", "", "is forbidden")])
            return Response(200, {}, self._stream(request.path, self.revision, initial=True))
        since = int(request.param("resourceVersion"))
        if since < self.compacted:
            raise status.Expired("too old resource version")
        return Response(200, {}, self._stream(request.path, since, initial=False))

    async def _stream(self, path: str, since: int, *, initial: bool) -> AsyncIterator[bytes]:
        if initial:
            for key, obj in list(self.objects.items()):
                if key.startswith(path + "/"):
                    yield _frame("ADDED", obj)
            end = {"resourceVersion": str(since), "annotations": {"k8s.io/initial-events-end": "true"}}
            yield _frame("BOOKMARK", {"metadata": end})
        cut = self.cut
        while self.cut == cut:
            for revision, kind, key, obj in list(self.log):
                if revision > since and key.startswith(path + "/"):
                    yield _frame(kind, obj)
                since = max(since, revision)
            async with self.changed:
                while self.revision <= since and self.cut == cut:
                    await self.changed.wait()


def _frame(kind: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"
