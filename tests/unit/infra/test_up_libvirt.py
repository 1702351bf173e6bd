from __future__ import annotations

from pathlib import Path

import pytest

from infra import up_libvirt
from infra.libvirt.registry import Lab
from infra.progress import Steps
from infra.topology import LIBVIRT, Topology


def test_where_no_virtual_machine_ever_was_nothing_is_brought_to_find_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistyped name must not build a toolchain, which takes minutes."""
    monkeypatch.setattr("infra.libvirt.registry.LABS", tmp_path / "labs")
    monkeypatch.setattr("infra.toolchain.environment.FOLDER", tmp_path / "none")
    monkeypatch.setattr(up_libvirt, "ready", lambda show: pytest.fail("tools were brought"))
    assert up_libvirt.down("mistyped", Steps()) is False


def test_a_lab_is_on_its_own_hypervisor_and_those_that_nodes_name() -> None:
    topology = Topology(name="a", backend=LIBVIRT, workers=2, hypervisors={"worker-2": "qemu+ssh://b/system"})
    lab = Lab(topology=topology, project="p", stack="dev", folder="/p", uri="qemu:///system")
    assert up_libvirt.hypervisors(lab) == ["qemu:///system", "qemu+ssh://b/system"]
    assert up_libvirt.hypervisors(None) == []
