"""Health: /healthz, /livez and /readyz, each a set of named checks; `?verbose` lists them, `?exclude=NAME` skips one.

`/readyz/NAME` asks a single check. Live is a process that can do something; ready is one that should be sent requests:
readiness also waits for the start-up objects and ends when shutdown begins.
Source: Kubernetes docs, "API health endpoints".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.api.status import NotFound
from orchestrator.api.wire import Request, Response

Check = Callable[[], str | None]  # None when well, else why not (for the log and the verbose answer)
TEXT_HEADERS = {"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"}


class Health:
    def __init__(self, live: Mapping[str, Check], ready: Mapping[str, Check]) -> None:
        self._live = dict(live)
        self._ready = {**self._live, **ready}

    async def healthz(self, request: Request) -> Response:
        return self._answer("healthz", self._live, request)

    async def livez(self, request: Request) -> Response:
        return self._answer("livez", self._live, request)

    async def readyz(self, request: Request) -> Response:
        return self._answer("readyz", self._ready, request)

    def _answer(self, name: str, checks: Mapping[str, Check], request: Request) -> Response:
        single = request.path.strip("/").partition("/")[2]
        if single:
            if single not in checks:
                raise NotFound("the server could not find the requested resource")
            checks = {single: checks[single]}
        excluded = [value for key, value in request.query if key == "exclude"]
        lines, is_well = [], True
        for check, ask in checks.items():
            why = None if check in excluded else ask()
            is_well = is_well and why is None
            shown = "excluded: ok" if check in excluded else "ok" if why is None else "failed: reason withheld"
            lines.append(f"[{'-' if why else '+'}]{check} {shown}")
        if is_well and not any(key == "verbose" for key, _ in request.query):
            return Response(200, dict(TEXT_HEADERS), b"ok")
        text = "\n".join([*lines, f"{name} check {'passed' if is_well else 'failed'}", ""])
        return Response(200 if is_well else 500, dict(TEXT_HEADERS), text.encode())
