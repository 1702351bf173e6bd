"""What proxied answers say of where they are: redirects and links of HTML pages, made to lead through the proxy again.

A URL is changed where its path is absolute and it names no host, the proxied server, or the host that the client asked;
relative ones lead through the proxy by themselves. Source: apimachinery pkg/util/proxy, Transport.
"""

from __future__ import annotations

import gzip
import html
import posixpath
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

# Attributes with a URL, by element: HTML 4.01, "Index of attributes", and the HTML standard.
URLS = {
    "a": ("href",), "applet": ("codebase",), "area": ("href",), "audio": ("src",), "base": ("href",),
    "blockquote": ("cite",), "body": ("background",), "button": ("formaction",), "command": ("icon",),
    "del": ("cite",), "embed": ("src",), "form": ("action",), "frame": ("longdesc", "src"), "head": ("profile",),
    "html": ("manifest",), "iframe": ("longdesc", "src"), "img": ("longdesc", "src", "usemap"),
    "input": ("src", "usemap", "formaction"), "ins": ("cite",), "link": ("href",),
    "object": ("classid", "codebase", "data", "usemap"), "q": ("cite",), "script": ("src",), "source": ("src",),
    "video": ("poster", "src"),
}  # fmt: skip
CORS = tuple(f"access-control-allow-{what}" for what in ("credentials", "headers", "methods", "origin"))


class Place(Struct, frozen=True):
    """`prefix`: the path of the proxy, without a slash at its end; `server`: host and port of what is proxied;
    `asked`: the client's Host header."""

    prefix: str
    server: str
    asked: str

    def url(self, text: str) -> str:
        """As the client can follow it; what is no URL stays as it is."""
        try:
            url = urlsplit(text)
        except ValueError:
            return text
        if not url.path.startswith("/") or url.netloc not in ("", self.server, self.asked):
            return text
        if not url.netloc or url.netloc != self.asked:
            url = url._replace(scheme="", netloc="")
        if url.path.startswith(self.prefix):
            return urlunsplit(url)
        slash = "/" if url.path.endswith("/") else ""
        return urlunsplit(url._replace(path=posixpath.normpath(f"{self.prefix}/{url.path}") + slash))


def is_page(content_type: str) -> bool:
    return content_type.partition(";")[0].strip() == "text/html"


def rewritten(body: bytes, encoding: str, place: Place) -> bytes | None:
    """The page with its links changed, encoded as it was; None where the encoding is none that is known, or it is not
    what it says."""
    try:
        if encoding == "gzip":
            return gzip.compress(_rewritten(gzip.decompress(body), place.url))
        if encoding == "deflate":  # without a zlib header, as Go's compress/flate has it
            packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
            return packing.compress(_rewritten(zlib.decompress(body, -zlib.MAX_WBITS), place.url)) + packing.flush()
    except (OSError, EOFError, zlib.error):
        return None
    return None if encoding else _rewritten(body, place.url)


def _rewritten(page: bytes, change: Callable[[str], str]) -> bytes:
    text = page.decode("utf-8", "surrogateescape")
    found = _Links(text, change)
    found.feed(text)
    pieces, at = [], 0
    for start, end, tag in found.edits:
        pieces += [text[at:start], tag]
        at = end
    return "".join([*pieces, text[at:]]).encode("utf-8", "surrogateescape")


class _Links(HTMLParser):
    """Collects `edits`: where a start tag is, and what stands there instead."""

    def __init__(self, text: str, change: Callable[[str], str]) -> None:
        super().__init__()
        self.edits: list[tuple[int, int, str]] = []
        self._change = change
        self._lines = [0]
        for line in text.split("\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        urls = URLS.get(tag, ())
        changed = [(name, self._change(value) if value and name in urls else value) for name, value in attrs]
        if changed == attrs:
            return
        line, column = self.getpos()
        start, raw = self._lines[line - 1] + column, self.get_starttag_text() or ""
        words = [tag, *(name if value is None else f'{name}="{html.escape(value)}"' for name, value in changed)]
        self.edits.append((start, start + len(raw), f"<{' '.join(words)}{'/>' if raw.endswith('/>') else '>'}"))
