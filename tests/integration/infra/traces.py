"""What a lab leaves on a machine while it is there, and must not leave afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from infra.local import lab as labs
from infra.local.layout import Layout, bridge, host_link
from infra.topology import Topology

LIMIT_S = 20.0


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def nothing_is_left(topology: Topology) -> None:
    """Waits for it: the kernel ends the last namespaces after their processes."""
    deadline = time.monotonic() + LIMIT_S
    while found := leftovers(topology):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def leftovers(topology: Topology) -> list[str]:
    """Whatever of a lab can still be found on this machine."""
    name = topology.name
    links = [host_link(topology, node) for node in topology.nodes] + [bridge(topology)]
    # A lab that began after this one ended may have taken its index, and so the names of its links.
    heirs = [heir for layout in labs.labs() if (heir := labs.load(layout)) and layout.name != name]
    found = [] if any(heir.index == topology.index for heir in heirs) else links
    found = [link for link in found if Path("/sys/class/net", link).exists()]
    found += [str(path) for path in Path("/sys/fs/cgroup").rglob(f"sampan-{name}")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if f"/sampan-labs/{name}" in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # A dead process that its reaper, this machine's init, has not seen yet is no longer the lab's.
            is_dead = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if not is_dead and f"sampan-{name}" in (process / "cgroup").read_text():
                found.append(f"{process}: {(process / 'cmdline').read_bytes()!r}")
        except OSError:
            continue
    if Layout(name).folder.exists():
        found.append(str(Layout(name).folder))
    return found
