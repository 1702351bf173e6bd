"""One program, whichever provider serves it: ours, and upstream's where somebody has that on PATH."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.toolchain.launchers import LIBVIRT_PROVIDER, PROVIDER_CHOICE
from tests.integration.provider.stacks import Stack, declare

MIB = 1 << 20


def providers() -> dict[str, str]:
    """By name, the path of the program; none for ours. Ours on PATH are scripts, upstream's is a Go program."""
    found = {"ours": ""}
    for folder in os.environ["PATH"].split(os.pathsep):
        program = Path(folder, LIBVIRT_PROVIDER)
        if os.access(program, os.X_OK) and program.read_bytes()[:4] == b"\x7fELF":
            found["upstream"] = str(program)
    return found


@pytest.mark.parametrize("name", providers())
def test_a_program_runs_with(name: str, new_stack: Callable[[str], Stack], connection: Any, tmp_path: Path) -> None:
    made = new_stack(name)
    stack = replace(made, environment={**made.environment, PROVIDER_CHOICE: providers()[name]})
    of_pool = {"of": "pool.name"}
    program = [
        declare("Network", "net", name="same", mode="none", addresses=["10.98.0.0/24"], dhcp={"enabled": True}),
        declare("Pool", "pool", name="same", type="dir", target={"path": str(tmp_path / "pool")}),
        declare("Volume", "base", name="base", pool=of_pool, size=8 * MIB, format="qcow2"),
        declare("Volume", "layer", name="layer", pool=of_pool, base_volume_id={"of": "base.id"}),
        declare("CloudInitDisk", "seed", name="seed.iso", pool=of_pool, user_data="#cloud-config\n"),
    ]
    assert stack.up(program).operations == dict.fromkeys(("net", "pool", "base", "layer", "seed"), "create")
    assert sorted(file.name for file in (tmp_path / "pool").iterdir()) == ["base", "layer", "seed.iso"]
    assert connection.networkLookupByName("same").isActive()
    assert stack.up(program).unlike_same == {}
    assert set(stack.destroy().operations.values()) == {"delete"}
    assert connection.listAllNetworks() == []
    assert connection.listAllStoragePools() == []
    assert not (tmp_path / "pool").exists() or list((tmp_path / "pool").iterdir()) == []
