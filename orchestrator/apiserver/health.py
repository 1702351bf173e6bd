"""Health: /healthz, /livez and /readyz, each a set of named checks; `?verbose` lists them, `?exclude=NAME` skips one.

`/readyz/NAME` asks a single check, and says what is wrong. Live is a process that can do something; ready is one that
should be sent requests: readiness also waits for the start-up objects and ends when shutdown begins.
Source: Kubernetes docs, "API health endpoints"; k8s.io/apiserver server/healthz.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping

from orchestrator.api.kinds.faults import shown
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver.metrics import family

log = logging.getLogger(__name__)

# None when well, else why not: for the log, and for who may ask the check alone.
Check = Callable[[], str | Awaitable[str | None] | None]
TEXT_HEADERS = {"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"}


class Health:
    """`well`: checks that say nothing of being alive."""

    def __init__(
        self, live: Mapping[str, Check], ready: Mapping[str, Check], well: Mapping[str, Check] | None = None
    ) -> None:
        self._live = dict(live)
        self._healthy = {**self._live, **(well or {})}
        self._ready = {**self._healthy, **ready}
        self._last: dict[tuple[str, str], bool] = {}  # (check, of which set) → whether it was well
        self._seen: dict[tuple[str, str, bool], int] = {}

    def paths(self) -> list[str]:
        sets = {"healthz": self._healthy, "livez": self._live, "readyz": self._ready}
        return [f"/{name}/{check}" for name, checks in sets.items() for check in checks]

    async def healthz(self, request: Request) -> Response:
        return await self._answer("healthz", self._healthy, request)

    async def livez(self, request: Request) -> Response:
        return await self._answer("livez", self._live, request)

    async def readyz(self, request: Request) -> Response:
        return await self._answer("readyz", self._ready, request)

    async def _answer(self, name: str, checks: Mapping[str, Check], request: Request) -> Response:
        if single := request.path.strip("/").partition("/")[2]:
            return await self._single(checks, single)
        excluded = {value for key, value in request.query if key == "exclude"}
        lines, failures = [], []
        for check, ask in checks.items():
            why = None if check in excluded else await self._observed(name, check, ask)
            if why is not None:
                failures.append(f"[-]{check} failed: {why}")
            said = "excluded: ok" if check in excluded else "ok" if why is None else "failed: reason withheld"
            lines.append(f"[{'-' if why is not None else '+'}]{check} {said}")
        if unknown := sorted(excluded - checks.keys()):
            words = "warn: some health checks cannot be excluded: no matches for"
            lines.append(f"{words} {','.join(shown(one) for one in unknown)}")
        if failures:
            log.warning("health check failed", extra={"check": name, "failures": failures})
        elif not any(key == "verbose" for key, _ in request.query):
            return Response(200, dict(TEXT_HEADERS), b"ok")
        text = "\n".join([*lines, f"{name} check {'failed' if failures else 'passed'}", ""])
        return Response(500 if failures else 200, dict(TEXT_HEADERS), text.encode())

    async def _observed(self, name: str, check: str, ask: Check) -> str | None:
        why = await asked(ask)
        self._last[check, name] = why is None
        self._seen[check, name, why is None] = self._seen.get((check, name, why is None), 0) + 1
        return why

    async def metrics(self, request: Request) -> Response:
        """`/metrics/slis`: how each check was answered."""
        last = [(f'name="{check}",type="{kind}"', int(well)) for (check, kind), well in sorted(self._last.items())]
        lines = list(family("kubernetes_healthcheck", "gauge", "Whether a check was well when last asked.", last))
        seen = [
            (f'name="{check}",status="{"success" if well else "error"}",type="{kind}"', count)
            for (check, kind, well), count in sorted(self._seen.items())
        ]
        lines += family("kubernetes_healthchecks_total", "counter", "Answers of each check.", seen)
        return Response(200, {"content-type": "text/plain; version=0.0.4"}, ("\n".join(lines) + "\n").encode())

    async def _single(self, checks: Mapping[str, Check], name: str) -> Response:
        if name not in checks:
            return Response(404, dict(TEXT_HEADERS), b"404 page not found\n")
        why = await asked(checks[name])
        if why is None:
            return Response(200, {"content-type": TEXT_HEADERS["content-type"]}, b"ok")
        return Response(500, dict(TEXT_HEADERS), f"internal server error: {why}\n".encode())


async def asked(check: Check) -> str | None:
    """What a check says, whether it has to be waited for or not."""
    found = check()
    return await found if inspect.isawaitable(found) else found
