from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from infra.images.vm import VmImage
from infra.libvirt import image, registry
from infra.libvirt.registry import Claimed, Lab
from infra.local import lab as local_lab
from infra.topology import LAB_INDEX_MAX, LIBVIRT, Topology


@pytest.fixture(autouse=True)
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in ("infra.libvirt.registry", "infra.local.layout", "infra.local.lab"):
        monkeypatch.setattr(f"{module}.LABS", tmp_path / "labs")
    return tmp_path / "labs"


def wish(name: str, index: int, stack: str = "dev") -> Lab:
    return Lab(topology=Topology(name=name, index=index, backend=LIBVIRT), project="p", stack=stack, folder="/p")


def test_a_claim_is_read_back_and_released() -> None:
    registry.claim(wish("a", 3))
    assert registry.read("a") == wish("a", 3)
    assert registry.backend("a") == LIBVIRT
    registry.release("a", "p", "dev")
    assert registry.read("a") is None
    assert registry.labs() == []


def test_a_lab_keeps_the_image_that_it_was_made_from(monkeypatch: pytest.MonkeyPatch) -> None:
    first = VmImage(Path("/c/1/disk"), Path("/c/1/vmlinuz"), Path("/c/1/initrd"), "rw", 5)
    monkeypatch.setattr("infra.libvirt.image.vm_image", lambda say: first)
    assert image.of_lab("a", print) == first
    registry.claim(replace(wish("a", 0), image=image.noted(first)))
    monkeypatch.setattr("infra.libvirt.image.vm_image", lambda say: replace(first, cmdline="newer"))
    assert image.of_lab("a", print) == first
    assert image.of_lab("b", print).cmdline == "newer"


def test_a_claim_may_be_repeated_and_changed_by_its_stack() -> None:
    registry.claim(wish("a", 0))
    more = replace(wish("a", 0), topology=Topology(name="a", backend=LIBVIRT, workers=5))
    registry.claim(more)
    assert registry.read("a") == more


def test_labs_get_the_lowest_free_place_and_keep_it() -> None:
    registry.claim(wish("a", 0))
    registry.claim(wish("b", 1))
    assert registry.place("b") == 1
    assert registry.place("c") == 2
    assert registry.place("c", taken={2, 3}) == 4


def test_no_place_is_left() -> None:
    with pytest.raises(Claimed, match="by other networks of libvirt"):
        registry.place("a", taken=range(LAB_INDEX_MAX + 1))


@pytest.mark.parametrize(
    ("late", "says"),
    [
        pytest.param(wish("a", 0, stack="other"), "name: 'a': is that of stack dev of project p", id="name"),
        pytest.param(wish("b", 0), "index: 0: lab a has taken that place", id="place"),
    ],
)
def test_what_is_taken_is_refused_and_left_alone(late: Lab, says: str) -> None:
    registry.claim(wish("a", 0))
    with pytest.raises(Claimed, match=f"^{says}"):
        registry.claim(late)
    assert registry.read("a") == wish("a", 0)


def test_another_stack_releases_nothing() -> None:
    registry.claim(wish("a", 0))
    registry.release("a", "p", "other")
    assert registry.read("a") == wish("a", 0)


def test_a_folder_that_has_lost_its_record_is_released_too(labs: Path) -> None:
    registry.claim(wish("a", 0))
    (labs / "a/lab.json").unlink()
    assert registry.release("a", "p", "dev")
    assert not (labs / "a").exists()
    assert not registry.release("a", "p", "dev")


def test_a_folder_of_no_virtual_machines_is_not_released(labs: Path) -> None:
    (labs / "near/nodes").mkdir(parents=True)
    assert not registry.release("near", "p", "dev")
    assert (labs / "near/nodes").exists()


def test_labs_of_other_backends_are_seen_but_not_counted(labs: Path) -> None:
    (labs / "near").mkdir(parents=True)
    (labs / "near/lab.json").write_text('{"topology": {"name": "near"}, "tree": "/t", "code": "/c"}')
    registry.claim(wish("far", 0))
    assert [layout.name for layout in local_lab.labs()] == ["near"]
    assert [lab.name for lab in registry.labs()] == ["far"]
    assert registry.backend("near") == "local"
    with pytest.raises(Claimed, match="name: 'near': is that of a local lab"):
        registry.claim(wish("near", 1))
