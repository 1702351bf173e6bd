"""Machines saved and put back: their memory goes on from where it was, their disks are what they were then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import snapshot_machines as machines
from infra.hypervisor.libvirtd import Libvirtd
from infra.provider import binding
from infra.snapshot import SnapshotError
from infra.snapshot_holder import ROOT, held, resume
from tests.integration.hypervisor.guests import Guest, wait_count
from tests.integration.hypervisor.traces import eventually


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 100 kB; mounted before libvirtd starts, who may see none that comes later."""
    place = tmp_path_factory.mktemp("small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="module")
def libvirtd(small: Path, new_libvirtd: Callable[..., Libvirtd]) -> Iterator[Libvirtd]:
    made = new_libvirtd()
    made.start()
    yield made
    made.remove()  # before the file system that it sees


@pytest.fixture
def pair(libvirtd: Libvirtd, tmp_path: Path) -> Iterator[list[Guest]]:
    guests = [Guest(libvirtd, name, tmp_path / "pool") for name in ("one", "two")]
    for guest in guests:
        wait_count(guest)
    yield guests
    for guest in guests:
        guest.virsh("destroy", guest.name)
        guest.virsh("undefine", guest.name)


def domain(guest: Guest) -> Any:
    return binding.connect(guest.libvirtd.uri).lookupByName(guest.name)


def save(guests: list[Guest], folder: Path) -> list[machines.Machine]:
    folder.mkdir(exist_ok=True)
    found = [machines.look(guest.name, domain(guest)) for guest in guests]
    with held({guests[0].libvirtd.uri: [guest.name for guest in guests]}):
        assert {guest.state for guest in guests} == {"paused"}
        for machine, guest in zip(found, guests, strict=True):
            machines.save(machine, domain(guest), folder)
    machines.write_record(found, folder)
    return machines.read_record(folder)


def test_both_go_on_from_one_moment(pair: list[Guest], tmp_path: Path) -> None:
    saved = save(pair, tmp_path / "saved")
    assert {guest.state for guest in pair} == {"running"}
    counts = [guest.count() for guest in pair]
    later = [wait_count(guest, count + 100) for guest, count in zip(pair, counts, strict=True)]
    marks = []
    for machine, guest in zip(saved, pair, strict=True):
        machines.check(machine, domain(guest))
        put = machines.replace_disks(machine, tmp_path / "saved")
        machines.power_off(domain(guest))
        put()
        guest.serial.unlink()
        machines.restore(machine, domain(guest).connect(), tmp_path / "saved")
        assert guest.state == "paused"
        marks.append(0)
    resume([domain(guest) for guest in pair])
    for guest, mark, count, end in zip(pair, marks, counts, later, strict=True):
        wait_count(guest)
        assert abs(guest.counted_from(mark) - count) < 50, "it goes on from the saved count"
        assert guest.counted_from(mark) < end
    assert {guest.state for guest in pair} == {"running"}


def test_disks_are_those_of_the_moment(pair: list[Guest], tmp_path: Path) -> None:
    guest = pair[0]
    before = guest.disk.read_bytes()
    (saved,) = save([guest], tmp_path / "saved")
    assert saved.disks.keys() == {str(guest.disk)}
    machines.power_off(domain(guest))
    with guest.disk.open("ab") as disk:
        disk.write(b"written since")
    machines.replace_disks(saved, tmp_path / "saved")()
    assert guest.disk.read_bytes() == before
    assert not list(guest.folder.glob(".*"))
    machines.restore(saved, domain(guest).connect(), tmp_path / "saved")
    resume([domain(guest)])


def test_if_the_saver_is_killed_they_run_on(pair: list[Guest]) -> None:
    script = (
        "import sys, time; from infra.snapshot_holder import held\n"
        "with held({sys.argv[1]: sys.argv[2:]}): print('held', flush=True); time.sleep(600)"
    )
    names = [guest.name for guest in pair]
    with subprocess.Popen(
        [sys.executable, "-c", script, pair[0].libvirtd.uri, *names], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "held\n"
        assert {guest.state for guest in pair} == {"paused"}
        holding.send_signal(signal.SIGKILL)
    for guest in pair:
        eventually(lambda guest=guest: guest.state == "running", "it is paused for ever")  # type: ignore[misc]


def test_what_was_paused_before_stays_so(pair: list[Guest]) -> None:
    pair[1].virsh("suspend", pair[1].name)
    with held({pair[0].libvirtd.uri: [guest.name for guest in pair]}):
        assert pair[0].state == "paused"
    assert [guest.state for guest in pair] == ["running", "paused"]


def test_a_machine_that_is_not_there_is_named(libvirtd: Libvirtd) -> None:
    with pytest.raises(RuntimeError, match="nobody"), held({libvirtd.uri: ["nobody"]}):
        raise AssertionError("it was held")


def test_another_machine_of_that_name_is_not_overwritten(pair: list[Guest], tmp_path: Path) -> None:
    (saved,) = save(pair[:1], tmp_path / "saved")
    with pytest.raises(SnapshotError, match="made anew"):
        machines.check(saved, domain(pair[1]))


def test_another_base_image_is_noticed(pair: list[Guest], tmp_path: Path) -> None:
    (saved,) = save(pair[:1], tmp_path / "saved")
    machines.check(saved, domain(pair[0]))
    base = pair[0].folder / "base.qcow2"
    os.utime(base)
    with pytest.raises(SnapshotError, match=r"base\.qcow2.*another image"):
        machines.check(saved, domain(pair[0]))


def test_one_that_is_off_is_refused(libvirtd: Libvirtd, tmp_path: Path) -> None:
    guest = Guest(libvirtd, "off", tmp_path / "pool")
    guest.virsh("destroy", "off")
    with pytest.raises(SnapshotError, match="off is off"):
        machines.look("off", domain(guest))
    guest.virsh("undefine", "off")


def test_no_space_is_told_and_nothing_is_left(pair: list[Guest], small: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(200_000))
    with pytest.raises(SnapshotError, match="was not copied"):
        machines.copy(large, small / "copy")
    assert not list(small.iterdir())
    with pytest.raises(SnapshotError, match="memory was not saved"), held({pair[0].libvirtd.uri: ["one"]}):
        machines.save(machines.look("one", domain(pair[0])), domain(pair[0]), small)
    assert pair[0].state == "running"
