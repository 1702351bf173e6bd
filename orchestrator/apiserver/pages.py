"""Pages about the server itself: `/` names its paths, `/statusz` what runs since when, `/flagz` with what settings.

The two are text for people, or a Statusz or Flagz of config.k8s.io for who asks for that by name.
Errors: NotAcceptable for anything else. Source: KEP-4827, KEP-4828; k8s.io/component-base zpages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
from msgspec import Struct

from orchestrator.api.meta import Object
from orchestrator.api.status import NotAcceptable
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver import encoding
from orchestrator.apiserver.asked import JSON_HEADERS
from orchestrator.apiserver.health import TEXT_HEADERS
from orchestrator.apiserver.negotiation import ranges
from orchestrator.apiserver.version import GIT_VERSION, KUBERNETES, info

NAME = "apiserver"
GROUP, VERSIONS = "config.k8s.io", ("v1alpha1", "v1beta1")
TEXT = "text/plain"
NOTHING_FITS = f"only the following media types are accepted: {encoding.JSON}, {encoding.YAML}, {TEXT}"
WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is "
    "for debugging purposes only."
)
SHOWN_PATHS = ("/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version")
_TREES = ("/apis/", "/openapi/v3/")  # that are named with their slash


def index(routes: Iterable[str], group_versions: Iterable[tuple[str, str]], checks: Iterable[str]) -> bytes:
    """The body of `/`; `checks` are paths of health checks."""
    paths = {path for path in routes if path and (not path.endswith("/") or path in _TREES)}
    paths = {path for path in paths if not path.startswith("/debug/")}
    for group, version in group_versions:
        paths |= {f"/apis/{group}", f"/apis/{group}/{version}"} if group else {f"/api/{version}"}
    return orjson.dumps({"paths": sorted({*paths, *checks})}, option=orjson.OPT_INDENT_2)


class Pages:
    """`config` is shown field by field, those of its parts among its own; it holds names of files, and no secret.
    `now` tells seconds since the epoch."""

    def __init__(self, config: Struct, now: Callable[[], float]) -> None:
        self._flags = dict(sorted(_flags(config)))
        self._now, self._started = now, now()

    async def statusz(self, request: Request) -> Response:
        up_s, started = int(self._now() - self._started), datetime.fromtimestamp(self._started, UTC)
        shown = {"goVersion": info()["goVersion"], "binaryVersion": GIT_VERSION[1:], "emulationVersion": KUBERNETES}
        lines = [
            f"Started: {started:%a %b %d %H:%M:%S UTC %Y}",
            f"Up: {up_s // 3600} hr {up_s // 60 % 60:02} min {up_s % 60:02} sec",
            f"Go version: {shown['goVersion']}",
            f"Binary version: {shown['binaryVersion']}",
            f"Emulation version: {shown['emulationVersion']}",
            f"Paths: {' '.join(SHOWN_PATHS)}",
        ]
        body = {
            "startTime": f"{started:%Y-%m-%dT%H:%M:%SZ}",
            "uptimeSeconds": up_s,
            **shown,
            "paths": list(SHOWN_PATHS),
        }
        return _answer(request, "Statusz", ["", *lines], body)

    async def flagz(self, request: Request) -> Response:
        lines = [f"{name}={value}" for name, value in self._flags.items()]
        return _answer(request, "Flagz", lines, {"flags": self._flags})


def _answer(request: Request, kind: str, lines: list[str], body: Object) -> Response:
    header = request.headers.get("accept", "") or TEXT
    for wanted in ranges(header):
        named = wanted.parameters
        if not named.keys() & {"as", "g", "v"}:
            if wanted.covers(TEXT):
                text = "\n".join(["", f"{NAME} {kind.lower()}", WARNING, *lines, ""])
                return Response(200, dict(TEXT_HEADERS), text.encode())
            continue
        version = named.get("v", "")
        if (named.get("as"), named.get("g")) != (kind, GROUP) or version not in VERSIONS:
            continue
        made = {"kind": kind, "apiVersion": f"{GROUP}/{version}", "metadata": {"name": NAME}, **body}
        data = orjson.dumps(made)
        for media_type in (encoding.JSON, encoding.YAML):
            if wanted.covers(media_type):
                headers = {**JSON_HEADERS, "content-type": f"{media_type};g={GROUP};v={version};as={kind}"}
                return Response(200, headers, encoding.to_yaml(data) if media_type == encoding.YAML else data)
    raise NotAcceptable(NOTHING_FITS)


def _flags(config: Struct) -> Iterator[tuple[str, str]]:
    for name in config.__struct_fields__:
        value = getattr(config, name)
        if isinstance(value, Struct):
            yield from _flags(value)
        elif value is not None:
            yield name.replace("_", "-"), _text(value)


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"[{' '.join(str(one) for one in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
