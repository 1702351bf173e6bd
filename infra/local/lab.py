"""Bring a lab on this machine up, and take it down. Every step looks first and does only what is missing."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

from infra.images import cache
from infra.images.tree import Progress
from infra.local import cleanup
from infra.local.control import Control, NotRunning
from infra.local.launch import launch
from infra.local.layout import LABS, Layout, bridge
from infra.topology import LAB_INDEX_MAX, Topology

BOOT_TIMEOUT_S = 30.0


def labs() -> list[Layout]:
    return [Layout(file.parent.name) for file in sorted(LABS.glob("*/lab.json"))]


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


def nodes_up(wish: Topology, say: Progress) -> tuple[Topology, Control]:
    """The lab's nodes booted and its supervisor answering. An existing lab keeps its index, and so its addresses."""
    layout = Layout(wish.name)
    known = load(layout)
    topology = replace(wish, index=known.index if known else free_index())
    tree = cache.node_image(say)
    code = cache.code(tree)
    control = Control(layout)
    lab = {"topology": topology.to_data(), "tree": str(tree), "code": str(code)}
    if control.is_running():
        if json.loads(layout.lab_file.read_text()) == lab:
            repair(control, topology)
            return topology, control
        say("the lab's shape or Sampan itself has changed: restarting the nodes")
    cleanup.end_processes(layout)
    layout.folder.mkdir(parents=True, exist_ok=True)
    layout.folder.chmod(0o711)
    layout.control_socket.unlink(missing_ok=True)
    layout.lab_file.write_text(json.dumps(lab, indent=1))
    say(f"booting {len(topology.nodes)} nodes")
    launch(layout, tree, code)
    wait_booted(control)
    return topology, control


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
