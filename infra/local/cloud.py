"""The local lab's cloud controller: a component of the host rather than of a node, beside the lab's bridge.

The supervisor runs it in the host's network, with the node image as its root, so its files are named as they are seen
from there.
"""

from __future__ import annotations

import os
from pathlib import Path

from infra.install import cloud
from infra.install.components import Process
from infra.install.connection import File
from infra.local.layout import HOST, HOST_NODE, Layout, bridge, inside
from infra.topology import Topology


def folder(layout: Layout) -> Path:
    return layout.node(HOST_NODE) / "etc"


def process(layout: Layout) -> Process:
    config = inside(folder(layout)) / f"{cloud.COMPONENT}.yaml"
    return Process(cloud.COMPONENT, "root", (cloud.COMPONENT, "--config", str(config)))


def install(layout: Layout, topology: Topology) -> bool:
    """Lay its files down; whether any of them has changed."""
    place = folder(layout)
    place.mkdir(parents=True, exist_ok=True)
    keys = {name: (layout.pki / name).read_bytes() for name in cloud.KEYS}
    settings = cloud.local_settings(inside(layout.control_socket))
    wanted = cloud.files(topology, keys, inside(place), settings, bridge=bridge(topology), host_root=str(HOST))
    changed = [file for file in wanted if not _is_there(place, file)]
    for file in changed:
        _write(place / Path(file.path).name, file)
    return bool(changed)


def _is_there(place: Path, file: File) -> bool:
    path = place / Path(file.path).name
    return path.exists() and path.read_bytes() == file.content


def _write(path: Path, file: File) -> None:
    """Whole or not at all, and never readable by others on the way."""
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, file.mode)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(file.content)
    new.rename(path)
