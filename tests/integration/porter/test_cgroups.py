"""Limits through the kernel's own v1 groups, where this host has them; where it has not, the porter says so."""

import os
import pwd
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.porter.cgroups import Cgroups, Enter, Group, LimitedGroup, Limits, parse_hierarchies
from orchestrator.porter.pods import Pods
from orchestrator.porter.processes import IdMap
from orchestrator.porter.verbs import PorterError

HIERARCHIES = parse_hierarchies(Path("/proc/self/mountinfo").read_text())
NOBODY = pwd.getpwnam("nobody")
IDS = IdMap(NOBODY.pw_uid, NOBODY.pw_gid, 100000, 65536, 100000, 65536)
EATER = "import sys; sys.stdin.readline(); x = bytearray(64 << 20); sys.stdout.write('fed')"


class OnePod:
    def by_index(self, index: str, value: str) -> list[dict[str, Any]]:
        return [{"metadata": {"uid": value}}]


@pytest.fixture
async def groups() -> AsyncIterator[Cgroups]:
    parent = f"sampan-test-{os.getpid()}"
    yield Cgroups(HIERARCHIES, parent, Pods(OnePod(), "n1", None), IDS)
    for root in HIERARCHIES.v1.values():
        for folder in sorted((root / parent).rglob("*/"), reverse=True):
            folder.rmdir()
        if (root / parent).exists():
            (root / parent).rmdir()


def start() -> subprocess.Popen[bytes]:
    """As nobody, who may not look into the checkout: by the interpreter that the environment was made on."""
    interpreter = str(Path(sys.executable).resolve())
    return subprocess.Popen(
        [interpreter, "-c", EATER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, user="nobody", group="nogroup"
    )


async def test_a_container_that_eats_more_than_its_limit_is_killed_and_counted(groups: Cgroups) -> None:
    wish = LimitedGroup(uid="a", container="c", limits=Limits(memory_bytes=32 << 20, pids=8, cpu_shares=100))
    if not HIERARCHIES.v1:
        with pytest.raises(PorterError, match="limits are Podman's on v2"):
            await groups.create(wish)
        return
    await groups.create(wish)
    with start() as process:
        await groups.enter(Enter(uid="a", container="c", pid=process.pid))
        assert (await groups.stat(Group(uid="a", container="c"))).result["pids"] == 1
        with pytest.raises(PorterError, match=r"busy|occupied"):
            await groups.remove(Group(uid="a", container="c"))
        process.communicate(b"\n")
        assert process.returncode == -9
    found = (await groups.stat(Group(uid="a", container="c"))).result
    assert found["oom_kills"] == 1
    assert found["cpu_usage_ns"] > 0
    await groups.update(LimitedGroup(uid="a", container="c", limits=Limits(memory_bytes=256 << 20)))
    with start() as process:
        await groups.enter(Enter(uid="a", container="c", pid=process.pid))
        assert process.communicate(b"\n")[0] == b"fed"
    await groups.remove(Group(uid="a"))
    await groups.remove(Group(uid="a"))
    with pytest.raises(PorterError, match="no such group"):
        await groups.stat(Group(uid="a", container="c"))


async def test_a_process_of_another_user_is_not_moved(groups: Cgroups) -> None:
    with pytest.raises(PorterError):
        await groups.enter(Enter(uid="a", container="c", pid=os.getpid()))
