"""Bring a lab on this machine up, and take it down. Every step looks first and does only what is missing."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.images import cache
from infra.images.tree import Progress
from infra.local import cleanup
from infra.local.control import Control, NotRunning
from infra.local.launch import launch
from infra.local.layout import LABS, Layout, bridge
from infra.locks import locked
from infra.topology import LAB_INDEX_MAX, LOCAL, Topology

BOOT_TIMEOUT_S = 30.0


def labs() -> list[Layout]:
    """Those whose nodes are namespaces: other backends have their labs in the same folder."""
    layouts = (Layout(file.parent.name) for file in sorted(LABS.glob("*/lab.json")))
    return [layout for layout in layouts if (topology := load(layout)) and topology.backend == LOCAL]


def load(layout: Layout) -> Topology | None:
    try:
        return Topology.from_data(json.loads(layout.lab_file.read_text())["topology"])
    except FileNotFoundError:
        return None


def free_index() -> int:
    """The lowest lab index that no lab of this machine has and whose bridge does not exist."""
    taken = {topology.index for layout in labs() if (topology := load(layout))}
    for index in range(LAB_INDEX_MAX + 1):
        if index not in taken and not Path("/sys/class/net", bridge(Topology(index=index))).exists():
            return index
    raise RuntimeError(f"all {LAB_INDEX_MAX + 1} places for labs are taken: take one down (./sampan down --name NAME)")


def exclusive() -> AbstractContextManager[None]:
    """One at a time on this machine: two labs that begin together must not choose one index."""
    return locked(LABS)


def nodes_up(wish: Topology, say: Progress) -> tuple[Topology, Control]:
    """The lab's nodes booted and its supervisor answering. An existing lab keeps its index, and so its addresses.

    A lab that differs only in its workers gains or loses those nodes; another difference restarts all its nodes.
    """
    tree = cache.node_image(say)
    code = cache.code(tree)
    layout = Layout(wish.name)
    control = Control(layout)
    with exclusive():
        known = load(layout)
        if known and known.backend != LOCAL:
            raise RuntimeError(
                f"name: {wish.name!r}: is that of a lab of another kind ({known.backend}) here: choose another"
            )
        topology = replace(wish, index=known.index if known else free_index())
        lab = {"topology": topology.to_data(), "tree": str(tree), "code": str(code)}
        before = json.loads(layout.lab_file.read_text()) if known else {}
        running = control.is_running()
        if running and _apart_from_workers(before) == _apart_from_workers(lab):
            _write(layout, lab)
            for gone in control.ask("topology", topology=lab["topology"])["gone"]:
                shutil.rmtree(layout.node(gone), ignore_errors=True)
            repair(control, topology)
            return topology, control
        if running:
            say("the lab's shape or Sampan itself has changed: restarting its nodes")
        cleanup.end_processes(layout)
        layout.folder.mkdir(parents=True, exist_ok=True)
        layout.folder.chmod(0o711)
        layout.control_socket.unlink(missing_ok=True)
        _write(layout, lab)
        cache.prune(in_use())
        say(f"booting {len(topology.nodes)} nodes")
        launch(layout, tree, code)
        wait_booted(control)
    return topology, control


def in_use() -> set[Path]:
    """What the labs of this machine, of whatever backend, have of the cache."""
    return {path for file in LABS.glob("*/lab.json") for path in of_cache(json.loads(file.read_text()))}


def of_cache(lab: Mapping[str, Any]) -> set[Path]:
    """A machine boots its kernel from the cache; a namespace node has its tree and code there."""
    named = (lab.get("tree"), lab.get("code"), (lab.get("image") or {}).get("disk"))
    return {Path(path) for path in named if path}


def _apart_from_workers(lab: dict[str, Any]) -> dict[str, Any]:
    return {**lab, "topology": {**lab.get("topology", {}), "workers": None}}


def _write(layout: Layout, lab: dict[str, Any]) -> None:
    """Whole or not at all: `down` finds what to remove by this file."""
    new = layout.lab_file.with_suffix(".new")
    new.write_text(json.dumps(lab, indent=1))
    new.rename(layout.lab_file)


def repair(control: Control, topology: Topology) -> None:
    """Start what was stopped on purpose; what died, the supervisor has started again already."""
    for name, node in control.ask("status")["nodes"].items():
        if not node["wanted"]:
            control.ask("node", node=name, action="start")
    if not Path("/sys/class/net", bridge(topology)).exists():
        raise RuntimeError(
            f"the lab's bridge {bridge(topology)} is gone: ./sampan down --name {topology.name}, then up"
        )
    wait_booted(control)


def wait_booted(control: Control) -> None:
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    while True:
        try:
            nodes = control.ask("status")["nodes"]
            if all(node["pid"] for node in nodes.values()):
                return
            state = ", ".join(f"{name}: {node['lastExit']}" for name, node in nodes.items() if not node["pid"])
        except NotRunning as error:
            state = str(error)
        if time.monotonic() > deadline:
            log = control.layout.supervisor_log
            tail = "\n".join(log.read_text().splitlines()[-15:]) if log.exists() else "(no log)"
            raise RuntimeError(f"nodes did not boot in {BOOT_TIMEOUT_S:.0f} s: {state}\n{log}:\n{tail}")
        time.sleep(0.01)


def down(name: str) -> bool:
    """False where there was nothing of that name."""
    layout = Layout(name)
    existed = layout.folder.exists()
    topology = load(layout)
    cleanup.remove(layout, topology, image_tool(layout))
    return existed


def image_tool(layout: Layout) -> tuple[str, ...]:
    """How the host runs ip and nft: from the image, if a lab or the cache has one; else its own."""
    trees = sorted(cache.folder().glob("node-*/tree"))
    return ("chroot", str(trees[-1])) if trees else ()
