"""Snapshots: their register, what of a machine is saved, and when pods serve again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from infra import (
    snapshot,
    snapshot_command,
    snapshot_definition,
    snapshot_flush,
    snapshot_freezer,
    snapshot_local,
    snapshot_serving,
)
from infra.libvirt import registry
from infra.snapshot import SnapshotError
from infra.topology import Topology
from orchestrator.api import meta

LAB = Topology(name="lab", workers=1)


@pytest.fixture(autouse=True)
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(snapshot, "LABS", tmp_path)
    return tmp_path


def make(name: str, size_bytes: int = 5000) -> None:
    with snapshot.building("lab", name, LAB) as made:
        (made.folder / "data").write_bytes(os.urandom(size_bytes))
        made.paused_s = 0.123


def test_a_snapshot_says_what_it_is_of() -> None:
    make("one")
    (found,) = snapshot.listed("lab")
    assert (found.name, found.lab, found.backend, found.paused_s) == ("one", "lab", "local", 0.12)
    assert found.nodes == ["control-plane-1", "worker-1"]
    assert found.size_bytes >= 5000
    assert meta.parse_time(found.created_at) > 0
    assert (found.folder / "data").stat().st_size == 5000


def test_nobody_else_may_look_in() -> None:
    make("one")
    assert snapshot.folder("lab").stat().st_mode & 0o777 == 0o700


def test_they_are_listed_oldest_first(labs: Path) -> None:
    for name, moment in (("new", "2026-03-01T00:00:00Z"), ("old", "2026-01-01T00:00:00Z")):
        make(name)
        record = labs / "lab/snapshots" / name / snapshot.RECORD
        record.write_text(json.dumps({**json.loads(record.read_text()), "created_at": moment}))
    assert [one.name for one in snapshot.listed("lab")] == ["old", "new"]
    assert snapshot.listed("other") == []


def test_one_that_failed_is_none(labs: Path) -> None:
    with pytest.raises(ZeroDivisionError), snapshot.building("lab", "one", LAB) as made:
        (made.folder / "data").write_text("half")
        raise ZeroDivisionError
    assert list((labs / "lab/snapshots").iterdir()) == []


def test_what_a_killed_one_left_is_no_snapshot_and_in_nobodys_way(labs: Path) -> None:
    left = labs / "lab/snapshots/.one.new"
    left.mkdir(parents=True)
    (left / snapshot.RECORD).write_text("{}")
    assert snapshot.listed("lab") == []
    make("one")
    assert not left.exists()


def test_a_name_is_taken_once() -> None:
    make("one")
    with pytest.raises(SnapshotError, match="snapshot delete one"):
        make("one")
    snapshot.delete("lab", "one")
    make("one")


@pytest.mark.parametrize("name", ["", "Up", "a_b", "-a", "a-", "../x", "a/b", ".a", "x" * 64])
def test_wrong_names_are_refused(name: str) -> None:
    with pytest.raises(SnapshotError, match="DNS label"):
        make(name)
    with pytest.raises(SnapshotError, match="DNS label"):
        snapshot.find("lab", name)


def test_an_unknown_one_is_told_with_those_that_are(labs: Path) -> None:
    make("one")
    with pytest.raises(SnapshotError, match=r"no snapshot 'two' \(there are: one\)"):
        snapshot.delete("lab", "two")


@pytest.mark.parametrize(
    ("mountinfo", "places"),
    [
        pytest.param("36 35 0:51 / / rw - overlay overlay rw", [], id="none"),
        pytest.param(
            "36 35 7:0 / /pods/a rw - ext4 /dev/loop0 rw\n37 35 7:0 / /pods/b rw - ext4 /dev/loop0 rw\n"
            "38 35 7:1 / /pods/with\\040space rw - ext4 /dev/loop1 rw",
            ["/pods/a", "/pods/with space"],
            id="one-place-a-device",
        ),
        pytest.param("36 35 17:0 / /x rw - ext4 /dev/x rw", [], id="not-a-loop-device"),
    ],
)
def test_file_systems_on_loop_devices(mountinfo: str, places: list[str]) -> None:
    assert snapshot_flush.on_loop_devices(mountinfo) == places


def test_flush_looks_only_at_nodes_that_are_on(tmp_path: Path) -> None:
    (tmp_path / "7/root/data").mkdir(parents=True)
    (tmp_path / "7/mountinfo").write_text(
        "1 1 7:0 / /data rw - ext4 /dev/loop0 rw\n2 1 7:1 / /gone rw - ext4 /dev/loop1 rw\n"
    )
    snapshot_flush.flush([0, 7], tmp_path)


def test_everything_of_a_lab_stands_still_but_its_supervisor(tmp_path: Path) -> None:
    for name in ("worker-1", "host", "supervisor"):
        (tmp_path / name).mkdir()
    (tmp_path / "cgroup.procs").touch()
    assert [group.name for group in snapshot_freezer.groups(tmp_path)] == ["host", "worker-1"]


def test_a_lab_is_copied_as_it_is_but_for_what_a_boot_makes(tmp_path: Path) -> None:
    source, target = tmp_path / "lab", tmp_path / "copy"
    for part in ("upper/etc", "work/work", "root/proc", "sampan"):
        (source / "nodes/worker-1" / part).mkdir(parents=True)
    (source / "volumes").mkdir()
    with (source / "volumes/disk").open("wb") as disk:
        disk.truncate(64 << 20)
    one = source / "nodes/worker-1/sampan/one"
    one.write_text("text")
    os.link(one, one.with_name("two"))
    one.with_name("link").symlink_to("/nowhere")
    os.mkfifo(one.with_name("fifo"))
    os.utime(one, (5, 5))
    target.mkdir()
    snapshot_local.copy_parts(source, target)
    copied = target / "nodes/worker-1/sampan"
    assert sorted(path.name for path in (target / "nodes/worker-1").iterdir()) == ["sampan", "upper"]
    assert (copied / "one").stat().st_ino == (copied / "two").stat().st_ino != one.stat().st_ino
    assert (copied / "link").readlink() == Path("/nowhere")
    assert (copied / "fifo").is_fifo()
    assert (copied / "one").stat().st_mtime == 5
    assert (target / "volumes/disk").stat().st_size == 64 << 20
    assert (target / "volumes/disk").stat().st_blocks == 0


def pod(name: str, *, ready: bool = True, started: tuple[float, ...] = (200.0,), **more: Any) -> dict[str, Any]:
    states = [{"state": {"running": {"startedAt": meta.format_time(moment)}}} for moment in started]
    return {
        "metadata": {"namespace": "default", "name": name, **more},
        "status": {
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": states,
        },
    }


def unready(name: str, *, made: float, since: float) -> dict[str, Any]:
    found = pod(name, ready=False, creationTimestamp=meta.format_time(made))
    found["status"]["conditions"][0]["lastTransitionTime"] = meta.format_time(since)
    return found


def test_only_those_that_served_are_awaited() -> None:
    pods = [
        pod("serves"),
        pod("failing", ready=False),
        pod("going", deletionTimestamp="2026-01-01T00:00:00Z"),
        unready("failed-before", made=100, since=149),
        unready("reported-already", made=100, since=150),
        unready("made-since", made=151, since=152),
    ]
    assert snapshot_serving.served(pods, since=150.5) == {"default/serves", "default/reported-already"}


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        pytest.param(pod("a"), "", id="started-since"),
        pytest.param(pod("a", started=(100.0,)), "not been started again", id="as-it-was-saved"),
        pytest.param(pod("a", started=(200.0, 100.0)), "not been started again", id="one-container-of-two"),
        pytest.param(pod("a", started=()), "not been started again", id="nothing-runs"),
        pytest.param(pod("a", ready=False), "is not Ready", id="started-but-not-ready"),
        pytest.param(pod("a", started=(150.0,)), "", id="within-the-second"),
        pytest.param(pod("b", started=(100.0,)), "", id="not-awaited"),
    ],
)
def test_when_pods_serve_again(seen: dict[str, Any], why: str) -> None:
    told = snapshot_serving.why_not_serving([seen], {"default/a"}, since=150.5)
    assert why in told if why else told == ""


@pytest.mark.parametrize(
    ("ready", "said", "why"),
    [
        pytest.param(True, "ok", "", id="answers"),
        pytest.param(True, "status 502", "its kubelet answers status 502", id="not-yet"),
        pytest.param(False, "ok", "is not Ready", id="not-ready"),
    ],
)
def test_when_machines_answer(ready: bool, said: str, why: str) -> None:
    node = {
        "metadata": {"name": "a"},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}]},
    }
    told = snapshot_serving.why_not_answering([node], {"a": said})
    assert why in told if why else told == ""
    assert "b" in snapshot_serving.why_not_answering([node], {"b": "ok"})


def test_a_pod_that_was_deleted_since_is_not_waited_for() -> None:
    assert snapshot_serving.why_not_serving([], {"default/a"}, since=1.0) == ""


DOMAIN = """<domain><devices>
<disk type='file' device='disk'><source file='/pool/node.qcow2'/><target dev='vda'/></disk>
<disk type='file' device='cdrom'><source file='/pool/seed.iso'/><target dev='hdd'/><readonly/></disk>
<disk type='file' device='disk'><source file='/pool/shared'/><target dev='vdb'/><readonly/></disk>
<disk type='volume' device='disk'><source pool='lab' volume='vol-1'/><target dev='vdc'/></disk>
<disk type='block' device='disk'><source dev='/dev/sdz'/><target dev='vdd'/></disk>
<disk type='file' device='cdrom'><target dev='hdc'/></disk>
</devices></domain>"""


def test_disks_are_those_that_a_machine_can_write() -> None:
    assert snapshot_definition.disks(DOMAIN) == ["/pool/node.qcow2", "lab/vol-1", "/dev/sdz"]


def test_a_checkpoint_of_memory_has_no_disk() -> None:
    root = ET.fromstring(snapshot_definition.memory_checkpoint(DOMAIN, Path("/saved/node.memory")))
    memory = root.find("memory")
    assert memory is not None
    assert memory.attrib == {"snapshot": "external", "file": "/saved/node.memory"}
    named = {disk.get("name"): disk.get("snapshot") for disk in root.findall("disks/disk")}
    assert named == dict.fromkeys(("vda", "hdd", "vdb", "vdc", "vdd", "hdc"), "no")


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        pytest.param(None, "there is no lab 'lab'", id="no-lab"),
        pytest.param("machines", "not Sampan's to save", id="a-users-machines"),
    ],
)
def test_labs_without_snapshots_say_why(monkeypatch: pytest.MonkeyPatch, backend: str | None, words: str) -> None:
    monkeypatch.setattr(registry, "backend", lambda lab: backend)
    with pytest.raises(SnapshotError, match=words):
        snapshot_command.backend_of("lab")


def test_a_local_lab_needs_no_libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "backend", lambda lab: "local")
    assert snapshot_command.backend_of("lab") is snapshot_local
    code = "import sys, infra.snapshot_command, infra.snapshot_local; sys.exit('libvirt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
