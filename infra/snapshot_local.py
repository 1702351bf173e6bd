"""Snapshots of a lab on this machine.

Save: every process of every node is held still at one moment, the nodes' folders (store, volumes, containers, logs,
what was written over the image) are copied, and all runs on: what a copy has is what a machine has on its disk when its
power fails, for all machines of the lab at one instant. Restore: the lab's nodes are powered off, their folders are
replaced by copies of the saved ones, and the nodes boot from them: their pods start again.
Keys and kubeconfig are the lab's own and stay. The copies are ready before anything is stopped; a restore that is
killed is done again by the next one.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from infra import pki, readiness, snapshot
from infra.local import cleanup, lab
from infra.local.control import Control, NotRunning
from infra.local.layout import HOST_NODE, Layout
from infra.local.up import install
from infra.progress import Steps
from infra.snapshot import Snapshot, SnapshotError
from infra.snapshot_flush import flush
from infra.snapshot_freezer import frozen
from infra.snapshot_serving import wait_serving
from infra.topology import Topology
from orchestrator.cloud import loopdevices

NODES, VOLUMES = "nodes", "volumes"
PARTS = (NODES, VOLUMES)  # of the lab's folder
MADE_AT_BOOT = ("root", "work")  # of a node: mount point and scratch space of the overlay
OFF_TIMEOUT_S = 30.0
COMING, GOING = ".coming", ".going"


def save(name: str, as_name: str, show: Steps) -> Snapshot:
    layout = Layout(name)
    with lab.exclusive():
        topology = _existing(layout)
        control = Control(layout)
        if not control.is_running():
            raise NotRunning(f"lab {name} does not run, and a snapshot is of one that does: `./sampan up` first")
        pids = [node["pid"] for node in control.ask("status")["nodes"].values()]
        with show.step("nodes held still and copied"), snapshot.building(name, as_name, topology) as made:
            began = time.monotonic()
            with frozen(layout):
                flush(pids)
                copy_parts(layout.folder, made.folder)
            made.paused_s = time.monotonic() - began
    return snapshot.find(name, as_name)


def restore(name: str, from_name: str, show: Steps) -> Snapshot:
    layout = Layout(name)
    saved = snapshot.find(name, from_name)
    with show.step("saved nodes and volumes copied"):
        coming = layout.folder / COMING
        shutil.rmtree(coming, ignore_errors=True)
        coming.mkdir(mode=0o700)
        copy_parts(saved.folder, coming)
    began = time.time()
    with show.step(f"{len(saved.nodes)} nodes booted from them"):
        topology, control = _boot(layout, saved, coming)
    # What the nodes had before goes while they start: thousands of files take seconds on a busy disk.
    with subprocess.Popen(["rm", "-rf", str(coming), str(layout.folder / GOING)]):
        _start(layout, topology, control, began, show)
    return saved


def _start(layout: Layout, topology: Topology, control: Control, began: float, show: Steps) -> None:
    with show.step("components started"):
        pki.ensure(layout.pki, topology)
        install(control, topology, layout)
    with show.step("API server ready"):
        asyncio.run(readiness.wait_api(layout.kubeconfig))
    with show.step("all nodes Ready"):
        names = [node.name for node in topology.nodes]
        started = partial(control.kubelets_started, names)
        asyncio.run(readiness.wait_nodes(layout.kubeconfig, started, [topology.control_plane.name]))
    with show.step("pods serving again"):
        asyncio.run(wait_serving(layout.kubeconfig, began))


def delete(lab: str, name: str) -> None:
    snapshot.delete(lab, name)


def _boot(layout: Layout, saved: Snapshot, coming: Path) -> tuple[Topology, Control]:
    with lab.exclusive():
        now = _existing(layout)
        topology = replace(Topology.from_data(saved.topology), index=now.index)
        _power_off(layout, topology == now)
        loopdevices.release_below(layout.folder / VOLUMES)
        going = layout.folder / GOING
        shutil.rmtree(going, ignore_errors=True)
        going.mkdir(mode=0o700)
        for part in PARTS:
            for source, target in ((layout.folder, going), (coming, layout.folder)):
                if (source / part).exists():  # else there are no volumes, or a restore was killed here
                    (source / part).rename(target / part)
        # What follows finds the lab as it was, and powered off.
        data = json.loads(layout.lab_file.read_text())
        new = layout.lab_file.with_suffix(".new")
        new.write_text(json.dumps({**data, "topology": topology.to_data()}, indent=1))
        new.rename(layout.lab_file)
    return lab.nodes_up(topology, lambda text: None)


def _power_off(layout: Layout, is_same_shape: bool) -> None:
    """A supervisor that runs such a lab already is kept: it has imported all that components need."""
    control = Control(layout)
    if not is_same_shape or not control.is_running():
        cleanup.end_processes(layout)
        return
    seen = control.ask("status")
    for one in seen["components"]:
        if one["node"] == HOST_NODE:
            control.ask("component", node=HOST_NODE, name=one["name"], action="kill")
    for node in seen["nodes"]:
        control.ask("node", node=node, action="stop")
    deadline = time.monotonic() + OFF_TIMEOUT_S
    while any(node["pid"] for node in control.ask("status")["nodes"].values()):
        if time.monotonic() > deadline:
            raise SnapshotError(f"nodes are not off after {OFF_TIMEOUT_S:.0f} s: `./sampan down`, or try again")
        time.sleep(0.01)


def copy_parts(source: Path, target: Path) -> None:
    """Nodes and volumes of a lab or a snapshot. Owners, times, hard links, holes, extended attributes and special files
    stay; blocks are shared where the file system can."""
    nodes = sorted((source / NODES).iterdir())
    with ThreadPoolExecutor(max_workers=len(nodes) + 1) as pool:
        copies = [pool.submit(_copy_node, node, target / NODES / node.name) for node in nodes]
        if (source / VOLUMES).is_dir():
            copies.append(pool.submit(_copy, [source / VOLUMES], target))
    for copy in copies:
        copy.result()


def _copy_node(node: Path, place: Path) -> None:
    place.mkdir(parents=True)
    _copy([part for part in sorted(node.iterdir()) if part.name not in MADE_AT_BOOT], place)
    shutil.copystat(node, place)


def _copy(parts: Sequence[Path], target: Path) -> None:
    if not parts:
        return
    command = ["cp", "--archive", "--reflink=auto", "--sparse=auto", "--", *map(str, parts), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise SnapshotError(
            f"{target}: not copied: {said[0] if said else f'cp ended with {done.returncode}'}\n"
            "Is the disk full? `./sampan snapshot list` shows what snapshots take, and delete frees it."
        )


def _existing(layout: Layout) -> Topology:
    topology = lab.load(layout)
    if topology is None:
        raise SnapshotError(f"there is no lab {layout.name}; `./sampan up` makes one")
    return topology
