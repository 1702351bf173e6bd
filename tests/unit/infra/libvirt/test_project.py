"""Which stack a lab is, and what of the command line becomes a setting of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from infra.libvirt import project, registry
from infra.libvirt.project import Project
from infra.libvirt.registry import Lab
from infra.topology import LIBVIRT, Topology
from infra.up_libvirt import Wish


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("infra.libvirt.registry.LABS", tmp_path / "labs")
    monkeypatch.setattr("infra.libvirt.project.PROJECTS", tmp_path / "projects")
    return tmp_path


@pytest.mark.parametrize("name", ["minimal", "cluster", "ha"])
def test_a_name_that_labs_has_is_the_stack_of_that_folder(name: str) -> None:
    found = project.of(name)
    assert found == Project(project.LABS / name, f"sampan-{name}", "dev")
    assert not found.is_ours
    described = yaml.safe_load((found.folder / "Pulumi.yaml").read_text())
    assert described["name"] == found.name
    assert described["config"]["sampan:name"] == name  # so that both ways lead to one lab


def test_any_other_name_is_a_stack_in_a_folder_of_its_own(places: Path) -> None:
    found = project.of("mine")
    assert found == Project(places / "projects/mine", "sampan", "mine")
    project.write(found)
    assert yaml.safe_load((found.folder / "Pulumi.yaml").read_text())["name"] == "sampan"
    compile((found.folder / "__main__.py").read_text(), "__main__.py", "exec")
    project.remove(found)
    assert not found.folder.exists()


def test_a_lab_that_was_made_is_where_it_was_made(places: Path) -> None:
    (places / "own").mkdir()
    (places / "own/Pulumi.yaml").write_text("name: theirs\n")
    lab = Lab(topology=Topology(name="x", backend=LIBVIRT), project="theirs", stack="s", folder=str(places / "own"))
    registry.claim(lab)
    assert project.of("x") == Project(places / "own", "theirs", "s")
    project.remove(project.of("x"))
    assert (places / "own/Pulumi.yaml").exists()


def test_only_what_differs_is_set(places: Path) -> None:
    found = project.of("mine")
    project.write(found)
    wanted = Wish(name="mine", workers=1, memory_mib=900).settings()
    assert wanted == {"workers": "1", "controlPlane.memoryMib": "900", "worker.memoryMib": "900"}
    assert project.differing(found, wanted) == wanted
    config = {"sampan:workers": "1", "sampan:worker": {"memoryMib": 900}}
    found.settings_file.write_text(yaml.safe_dump({"encryptionsalt": "v1:", "config": config}))
    assert project.differing(found, wanted) == {"controlPlane.memoryMib": "900"}


def test_what_is_not_asked_for_is_not_set() -> None:
    assert Wish(name="mine").settings() == {}
