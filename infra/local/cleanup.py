"""Take a lab away by its names alone, whatever state it is in: half made, half removed, or with a dead supervisor.

Order: processes (the lab's control group ends them all, and their namespaces and mounts with them), groups, links and
tables, files.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

from infra import kubeconfig
from infra.install import cloud
from infra.local import network
from infra.local.layout import LABS, Layout
from infra.topology import Topology
from orchestrator.cloud import loopdevices

# Runs in a mount namespace of its own, where it mounts the cgroup hierarchies to find the lab's groups.
_END_GROUPS = """
import sys
from infra.local import cgroups, syscalls
syscalls.unshare(syscalls.CLONE_NEWNS)
syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
syscalls.mount("tmpfs", "/run", "tmpfs")
cgroups.mount_hierarchies()
cgroups.end(cgroups.UNIFIED, sys.argv[1])
for place in cgroups.hierarchies():
    if (place / sys.argv[1]).is_dir():
        cgroups.remove(place / sys.argv[1])
"""


def end_processes(layout: Layout) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _END_GROUPS, layout.cgroup],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    if done.returncode != 0:
        raise RuntimeError(f"lab {layout.name}: its control groups could not be ended: {done.stderr.strip()}")


def remove(layout: Layout, topology: Topology | None, tool: tuple[str, ...]) -> None:
    end_processes(layout)
    if topology is not None:
        network.remove(topology, tool=tool)
        network.remove_table(cloud.table(topology), tool=tool)
    kubeconfig.withdraw(layout.name, layout.kubeconfig_users)
    loopdevices.release_below(layout.volumes)
    if layout.folder.exists():
        shutil.rmtree(layout.folder)
    if not any(LABS.glob("*/lab.json")):
        with contextlib.suppress(OSError):  # another lab begins just now
            LABS.rmdir()
