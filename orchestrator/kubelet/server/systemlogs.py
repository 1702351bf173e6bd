"""The node's own logs, /var/log as the kubelet may read it: folders as a page of links, files as they are.

Names that lead out of the folder, by `..` or by a link, are not found. Source: the kubelet's /logs/ handler.
"""

from __future__ import annotations

import asyncio
import html
import mimetypes
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from orchestrator.api import status

PATTERN = "/logs/{path:.*}"


class SystemLogs:
    def __init__(self, root: Path = Path("/var/log")) -> None:
        self._root = root

    async def get(self, request: web.Request) -> web.StreamResponse:
        wanted = request.match_info["path"]
        place = await asyncio.to_thread((self._root / wanted.lstrip("/")).resolve)
        if not place.is_relative_to(self._root.resolve()):
            raise status.NotFound("404 page not found")
        try:
            if not await asyncio.to_thread(place.is_dir):
                if not await asyncio.to_thread(place.is_file):
                    raise status.NotFound("404 page not found")
                kind = mimetypes.guess_type(place.name)[0] or "text/plain"
                return web.FileResponse(place, headers={"content-type": kind})
            if wanted and not wanted.endswith("/"):
                raise web.HTTPMovedPermanently(f"{place.name}/")
            names = await asyncio.to_thread(_names, place)
        except PermissionError as error:
            raise status.Forbidden(f"403 Forbidden: {error.strerror}") from error
        links = "".join(f'<a href="{quote(name)}">{html.escape(name)}</a>\n' for name in names)
        page = f'<!doctype html>\n<meta name="viewport" content="width=device-width">\n<pre>\n{links}</pre>\n'
        return web.Response(text=page, content_type="text/html")


def _names(folder: Path) -> list[str]:
    return sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
