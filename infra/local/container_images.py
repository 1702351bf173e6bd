"""Container images of a lab's nodes: which are there, and an archive loaded onto all of them at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from infra.nodes import Nodes


def listed(control: Nodes) -> list[dict[str, Any]]:
    """One entry an image name, with its size in bytes and the nodes that have it."""
    found: dict[str, dict[str, Any]] = {}
    for node in control.running_nodes():
        for image in json.loads(control.run(node, ["podman", "images", "--format", "json"], user="sampan")):
            for name in image.get("Names") or [f"<none>@{image['Id'][:12]}"]:
                entry = found.setdefault(name, {"name": name, "size": image["Size"], "nodes": []})
                if node not in entry["nodes"]:
                    entry["nodes"].append(node)
    return [found[name] for name in sorted(found)]


def load(control: Nodes, file: Path, nodes: Sequence[str]) -> list[str]:
    """Load a docker or OCI archive onto the nodes; the names that it brought."""
    data = file.read_bytes()

    def one(node: str) -> str:
        return control.run(node, ["podman", "load", "--quiet"], user="sampan", stdin=data).decode()

    with ThreadPoolExecutor(max_workers=max(1, len(nodes))) as pool:
        said = list(pool.map(one, nodes))
    return sorted({line.removeprefix("Loaded image: ") for text in said for line in text.splitlines()})
