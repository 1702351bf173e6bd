"""A container image as one docker-archive file, written without a container engine.

Format: a tar of `manifest.json`, the image configuration (named by its sha256) and one layer tar, as `docker save`
writes it and `podman load` reads it. Everything in a layer belongs to root with a fixed time, so that equal contents
give equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CREATED = "2025-01-01T00:00:00Z"
MTIME_S = 1_735_689_600


@dataclass(frozen=True)
class Copy:
    """A file or a whole directory of the root tree."""

    source: Path
    mode: int | None = None


@dataclass(frozen=True)
class Text:
    content: str | bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Link:
    target: str


@dataclass(frozen=True)
class Directory:
    mode: int = 0o755


Entry = Copy | Text | Link | Directory


@dataclass(frozen=True, kw_only=True)
class Image:
    """`names` are full references; `files` maps absolute paths in the image to their origin."""

    names: tuple[str, ...]
    files: Mapping[str, Entry]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    stop_signal: str = ""
    environment: Mapping[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )


def _header(path: str, mode: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(path.lstrip("/") or "./")
    header.mode, header.mtime = mode, MTIME_S
    return header


def _add_copy(layer: tarfile.TarFile, path: str, entry: Copy) -> None:
    source = entry.source
    if source.is_symlink():
        header = _header(path, 0o777)
        header.type, header.linkname = tarfile.SYMTYPE, str(source.readlink())
        layer.addfile(header)
    elif source.is_dir():
        header = _header(path, entry.mode or 0o755)
        header.type = tarfile.DIRTYPE
        layer.addfile(header)
        for child in sorted(source.iterdir()):
            _add_copy(layer, f"{path}/{child.name}", Copy(child))
    else:
        data = source.read_bytes()
        header = _header(path, entry.mode or source.stat().st_mode & 0o7777)
        header.size = len(data)
        layer.addfile(header, io.BytesIO(data))


def layer_bytes(files: Mapping[str, Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as layer:
        for path, entry in sorted(files.items()):
            match entry:
                case Copy():
                    _add_copy(layer, path, entry)
                case Text():
                    data = entry.content.encode() if isinstance(entry.content, str) else entry.content
                    header = _header(path, entry.mode)
                    header.size = len(data)
                    layer.addfile(header, io.BytesIO(data))
                case Link():
                    header = _header(path, 0o777)
                    header.type, header.linkname = tarfile.SYMTYPE, entry.target
                    layer.addfile(header)
                case Directory():
                    header = _header(path, entry.mode)
                    header.type = tarfile.DIRTYPE
                    layer.addfile(header)
    return buffer.getvalue()


def write(image: Image, architecture: str, target: Path) -> None:
    layer = layer_bytes(image.files)
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "created": CREATED,
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Env": [f"{key}={value}" for key, value in image.environment.items()],
            "Entrypoint": list(image.entrypoint) or None,
            "Cmd": list(image.command) or None,
            "ExposedPorts": {port: {} for port in image.ports},
            "StopSignal": image.stop_signal or None,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": CREATED, "created_by": "sampan infra/images"}],
    }
    encoded = json.dumps(config, sort_keys=True).encode()
    name = hashlib.sha256(encoded).hexdigest()
    manifest = [{"Config": f"{name}.json", "RepoTags": list(image.names), "Layers": [f"{digest}.tar"]}]
    parts = ((f"{name}.json", encoded), (f"{digest}.tar", layer), ("manifest.json", json.dumps(manifest).encode()))
    with tarfile.open(target, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for part, data in parts:
            header = _header(part, 0o644)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
