"""What a libvirtd of ours has on a machine while it is there, and must not leave afterwards."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from infra import forwarding
from infra.hypervisor import link, processes
from infra.hypervisor.libvirtd import Libvirtd

LIMIT_S = 20.0


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def leftovers(libvirtd: Libvirtd, number: int) -> list[str]:
    """Whatever of it can be found; `number` is its cable's."""
    cable = link.Link(number, libvirtd.netns, libvirtd.networks)
    paths = [libvirtd.folder, link.NETNS / libvirtd.netns, Path("/sys/class/net", cable.outer)]
    paths += [forwarding.FOLDER / cable.table, *Path("/run/sampan/services").glob(f"{libvirtd.service}*")]
    found = [str(path) for path in paths if path.exists()]
    for family in ("-4", "-6"):
        routes = subprocess.run(["ip", family, "route"], capture_output=True, text=True, check=True).stdout
        found += [line for line in routes.splitlines() if cable.outer in line or line.startswith(libvirtd.networks)]
    tables = subprocess.run([link.nft(), "list", "tables"], capture_output=True, text=True, check=True).stdout
    found += [line for line in tables.splitlines() if line.endswith(f" {cable.table}")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mounted = str(libvirtd.folder) in (process / "mountinfo").read_text()
            named = str(libvirtd.folder).encode() in (process / "cmdline").read_bytes()
        except OSError:
            continue
        if (mounted or named) and processes.started_at(int(process.name)):
            found.append(str(process))
    return found
