"""The file that a volume is made from: on this machine, or from a web server.

A source has a size and can be read from its start; its first bytes tell its format and, of a qcow2 image, how big the
disk in it is (the header's bytes 24 to 31). Source: qemu docs/interop/qcow2.txt, section Header.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

QCOW2_MAGIC = b"QFI\xfb"
HEADER_BYTES = 32
CHUNK_BYTES = 1 << 20
WEB_TIMEOUT_S = 60.0


class SourceError(RuntimeError):
    """The file cannot be read; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Source:
    stream: BinaryIO
    header: bytes
    size_bytes: int  # of the file

    @property
    def format(self) -> str:
        return "qcow2" if self.header.startswith(QCOW2_MAGIC) else "raw"

    @property
    def disk_bytes(self) -> int:
        """Of the disk that a guest sees."""
        return int.from_bytes(self.header[24:32], "big") if self.format == "qcow2" else self.size_bytes

    def chunks(self) -> Iterator[bytes]:
        yield self.header
        while chunk := self.stream.read(CHUNK_BYTES):
            yield chunk


@contextlib.contextmanager
def opened(source: str) -> Iterator[Source]:
    """A path, file://, http:// or https://."""
    parts = urlsplit(source)
    try:
        if parts.scheme in ("http", "https"):
            with urllib.request.urlopen(source, timeout=WEB_TIMEOUT_S) as answer:
                length = answer.headers.get("Content-Length")
                if length is None:  # libvirt wants to know before it takes the first byte
                    with tempfile.TemporaryFile() as whole:
                        shutil.copyfileobj(answer, whole)
                        size = whole.tell()
                        whole.seek(0)
                        yield Source(io.BufferedReader(whole), whole.read(HEADER_BYTES), size)
                        return
                yield Source(answer, answer.read(HEADER_BYTES), int(length))
                return
        with local_path(source).open("rb") as file:
            yield Source(file, file.read(HEADER_BYTES), local_path(source).stat().st_size)
    except urllib.error.URLError as error:
        raise SourceError(f"{source} cannot be fetched: {error.reason}") from error
    except OSError as error:
        raise SourceError(f"{source} cannot be read: {error.strerror or error}") from error


def is_web(source: str) -> bool:
    return urlsplit(source).scheme in ("http", "https")


def is_there(source: str) -> bool:
    """A file of this machine is looked for; a web server is asked only when the file is wanted."""
    return is_web(source) or local_path(source).is_file()


def local_path(source: str) -> Path:
    parts = urlsplit(source)
    return Path(unquote(parts.path) if parts.scheme == "file" else source)
