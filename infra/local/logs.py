"""Component logs, read from the nodes' folders on the host: also of a node that is down."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from infra.local.layout import Layout


def find(layout: Layout, component: str, node: str = "") -> list[Path]:
    """Errors: LookupError with what there is."""
    if component == "supervisor":
        return [layout.supervisor_log]
    nodes = layout.folder / "nodes"
    found = sorted(nodes.glob(f"{node or '*'}/log/sampan/{component}.log"))
    if not found:
        known = sorted({file.stem for file in nodes.glob(f"{node or '*'}/log/sampan/*.log")})
        where = f"on node {node}" if node else f"in lab {layout.name}"
        raise LookupError(f"no log of {component} {where}; there are: supervisor, {', '.join(known) or 'no others'}")
    return found


def show(files: Sequence[Path], tail: int, follow: bool) -> None:
    """Hands over to tail(1), which follows across restarts and names the file where there are several."""
    count = "+1" if tail < 0 else str(tail)
    command = ["tail", "-n", count, *(["-F"] if follow else []), "--", *map(str, files)]
    os.execvp(command[0], command)
