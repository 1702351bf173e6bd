"""Conformance of Volume: every property of the SDK's schema, against real libvirt through the real CLI."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.hypervisor.libvirtd import Libvirtd
from infra.toolchain import stack_lock
from tests.integration.provider.stacks import Declared, Stack, declare

MIB = 1 << 20
CONTENT = hashlib.sha256(b"a disk").digest() * (3 * MIB // 32)
LIMIT_S = 60.0


def pool(name: str, folder: Path) -> Declared:
    return declare("Pool", name, name=name, type="dir", target={"path": str(folder)})


def volume(name: str, /, **properties: Any) -> Declared:
    return declare("Volume", name, **{"name": name, "pool": {"of": "disks.name"}, **properties})


class Web(http.server.BaseHTTPRequestHandler):
    """/length tells the length, /chunked does not, /short breaks off, /slow stops in the middle until it may go on."""

    protocol_version = "HTTP/1.1"
    go_on = threading.Event()
    halfway = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(CONTENT), MIB):
                part = CONTENT[start : start + MIB]
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:MIB])
        if self.path == "/short":
            self.close_connection = True
            return
        if self.path == "/slow":
            self.wfile.write(CONTENT[MIB : 2 * MIB])
            Web.halfway.set()
            Web.go_on.wait(LIMIT_S)
            self.wfile.write(CONTENT[2 * MIB :])
            return
        self.wfile.write(CONTENT[MIB:])

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("volumes")
    (made / "raw").write_bytes(CONTENT)
    (made / "other").write_bytes(CONTENT[::-1])
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", made / "image.qcow2", "64M"], check=True)
    return made


def wanted(place: Path, web: str, *, changed: bool) -> list[Declared]:
    pools = [pool("disks", place / "disks"), pool("more", place / "more")]
    image = volume("image", source=str(place / "image.qcow2"))
    if not changed:
        return [
            *pools,
            image,
            volume("size", size=8 * MIB),
            volume("format", size=8 * MIB, format="qcow2"),
            volume("name", size=MIB),
            volume("pool", size=MIB),
            volume("source", source=str(place / "raw")),
            volume("bigger", source=f"file://{place}/raw", size=16 * MIB),
            volume("length", source=f"{web}/length"),
            volume("chunked", source=f"{web}/chunked"),
            volume("base-id", base_volume_id={"of": "image.id"}),
            volume("base-name", base_volume_name={"of": "image.name"}, base_volume_pool={"of": "disks.name"}),
        ]
    return [
        *pools,
        image,
        volume("size", size=12 * MIB),
        volume("format", size=8 * MIB, format="raw"),
        volume("name", size=MIB, name="renamed"),
        volume("pool", size=MIB, pool={"of": "more.name"}),
        volume("source", source=str(place / "other")),
        volume("bigger", source=f"file://{place}/raw", size=24 * MIB),
        volume("length", source=f"{web}/length"),
        volume("chunked", source=f"{web}/chunked"),
        volume("base-id", base_volume_id={"of": "image.id"}, size=128 * MIB),
        volume("base-name", base_volume_id={"of": "image.id"}),
    ]


def info(file: Path) -> dict[str, Any]:
    return json.loads(subprocess.check_output(["qemu-img", "info", "-U", "--output=json", file]))


@pytest.fixture(scope="module")
def before(stack: Stack, place: Path, web: str) -> dict[str, dict[str, Any]]:
    """What QEMU says of each file after the first update."""
    run = stack.up(wanted(place, web, changed=False))
    assert set(run.operations.values()) == {"create"}
    return {file.name: info(file) for file in (place / "disks").iterdir()}


@pytest.fixture(scope="module")
def changes(before: dict[str, dict[str, Any]], stack: Stack, place: Path, web: str) -> dict[str, str]:
    assert stack.up(wanted(place, web, changed=False), "--expect-no-changes").unlike_same == {}
    announced = stack.preview(wanted(place, web, changed=True)).unlike_same
    made = stack.up(wanted(place, web, changed=True)).unlike_same
    assert announced == made
    return made


def test_the_files_are_as_asked(before: dict[str, dict[str, Any]], place: Path) -> None:
    assert {name: (seen["format"], seen["virtual-size"]) for name, seen in before.items()} == {
        "image": ("qcow2", 64 * MIB),
        "size": ("qcow2", 8 * MIB),
        "format": ("qcow2", 8 * MIB),
        "name": ("qcow2", MIB),
        "pool": ("qcow2", MIB),
        "source": ("raw", len(CONTENT)),
        "bigger": ("raw", 16 * MIB),
        "length": ("raw", len(CONTENT)),
        "chunked": ("raw", len(CONTENT)),
        "base-id": ("qcow2", 64 * MIB),
        "base-name": ("qcow2", 64 * MIB),
    }
    for name in ("base-id", "base-name"):
        assert before[name]["backing-filename"] == str(place / "disks/image")
        assert before[name]["backing-filename-format"] == "qcow2"
    for name in ("length", "chunked"):
        assert (place / "disks" / name).read_bytes() == CONTENT


def test_what_a_change_of_each_property_does(changes: dict[str, str]) -> None:
    assert changes == {
        "size": "update",
        "bigger": "update",
        "base-id": "update",
        "format": "replace",
        "name": "replace",
        "pool": "replace",
        "source": "replace",
        "base-name": "replace",
    }


def test_the_files_after_it(changes: dict[str, str], place: Path, stack: Stack) -> None:
    disks = place / "disks"
    assert info(disks / "size")["virtual-size"] == 12 * MIB
    assert info(disks / "bigger")["virtual-size"] == 24 * MIB
    assert info(disks / "base-id")["virtual-size"] == 128 * MIB
    assert info(disks / "format")["format"] == "raw"
    assert (disks / "bigger").read_bytes()[: len(CONTENT)] == CONTENT
    assert (disks / "source").read_bytes() == CONTENT[::-1]
    assert not (disks / "name").exists()
    assert (disks / "renamed").exists()
    assert (place / "more/pool").exists()
    assert not (disks / "pool").exists()
    assert stack.state("size")["outputs"]["size"] == 12 * MIB
    assert stack.state("source")["outputs"]["format"] == "raw"
    assert stack.state("size")["id"] == str(disks / "size")


def test_a_volume_does_not_shrink(changes: dict[str, str], stack: Stack, place: Path, web: str) -> None:
    smaller = [entry for entry in wanted(place, web, changed=True) if entry["name"] != "size"]
    run = stack.preview([*smaller, volume("size", size=4 * MIB)], fails=True)
    assert f"volume size: size {4 * MIB} is smaller than the {12 * MIB} it has" in run.output
    assert info(place / "disks/size")["virtual-size"] == 12 * MIB


def test_what_changed_behind_pulumis_back_is_found_and_undone(
    changes: dict[str, str], connection: Any, stack: Stack, place: Path, web: str
) -> None:
    (place / "disks/source").unlink()
    connection.storagePoolLookupByName("disks").destroy()
    subprocess.run(["truncate", "-s", str(100 * MIB), place / "disks/format"], check=True)
    found = stack.refresh()
    assert found.unlike_same["source"] == "delete"
    assert found.unlike_same["format"] in ("update", "refresh")
    assert stack.state("format")["inputs"]["size"] == 100 * MIB
    grown = [entry for entry in wanted(place, web, changed=True) if entry["name"] != "format"]
    run = stack.up([*grown, volume("format", size=110 * MIB, format="raw")])
    assert run.unlike_same["source"] == "create"
    assert run.unlike_same["format"] == "update"
    assert (place / "disks/source").read_bytes() == CONTENT[::-1]
    assert info(place / "disks/format")["virtual-size"] == 110 * MIB


def test_an_update_that_was_killed_before_it_wrote_its_state_is_taken_over(
    changes: dict[str, str], stack: Stack, place: Path, web: str
) -> None:
    inode = (place / "disks/length").stat().st_ino
    stack.forget("length")
    run = stack.up(wanted(place, web, changed=True), "--target", "**length")
    assert "an update that was cut short made it; it is taken over" in run.diagnostics["length"]
    assert (place / "disks/length").stat().st_ino == inode


def test_an_upload_that_breaks_off_leaves_nothing_and_the_next_update_finishes(
    new_stack: Callable[[str], Stack], tmp_path: Path, web: str
) -> None:
    stack = new_stack("broken")
    pools = [pool("disks", tmp_path / "disks")]
    pools[0]["properties"]["name"] = "broken"
    run = stack.up([*pools, volume("ok", size=MIB), volume("cut", source=f"{web}/short")], fails=True)
    assert f"it ended after {MIB} of {len(CONTENT)} bytes; nothing is kept of it" in run.diagnostics["cut"]
    assert sorted(file.name for file in (tmp_path / "disks").iterdir()) == ["ok"]
    missing = stack.up([*pools, volume("ok", size=MIB), volume("cut", source="http://127.0.0.1:1/x")], fails=True)
    assert "http://127.0.0.1:1/x cannot be fetched" in missing.output
    done = stack.up([*pools, volume("ok", size=MIB), volume("cut", source=f"{web}/length")])
    assert done.unlike_same == {"cut": "create"}
    assert (tmp_path / "disks/cut").read_bytes() == CONTENT


def test_a_cli_that_is_killed_in_an_upload_is_followed_by_one_that_finishes(
    new_stack: Callable[[str], Stack], tmp_path: Path, web: str
) -> None:
    stack = new_stack("killed")
    wish = [pool("disks", tmp_path / "disks"), volume("slow", source=f"{web}/slow")]
    wish[0]["properties"]["name"] = "killed"
    stack.declare(wish)
    running = stack.start("up", "--yes", "--skip-preview")
    assert Web.halfway.wait(LIMIT_S)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    Web.go_on.set()
    url = stack.environment["PULUMI_BACKEND_URL"]
    assert len(stack_lock.release_stale(url, "provider", stack.name)) == 1
    done = stack.up(wish)
    assert done.operations["slow"] == "create"
    assert (tmp_path / "disks/slow").read_bytes() == CONTENT
    assert stack.destroy().operations == {"disks": "delete", "slow": "delete"}
    assert not (tmp_path / "disks").exists()


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        pytest.param({}, "is required without a source", id="no-size"),
        pytest.param({"size": 1, "format": "vdi"}, "format", id="a-format-that-is-none"),
        pytest.param({"source": "/no/such/file"}, "no such file on this machine", id="no-such-file"),
        pytest.param({"size": 1, "base_volume_pool": "x"}, "is the pool of baseVolumeName", id="a-pool-of-nothing"),
        pytest.param(
            {"base_volume_id": "/a", "base_volume_name": "b"}, "names the base volume already", id="two-base-volumes"
        ),
        pytest.param({"base_volume_id": "/a", "format": "raw"}, "raw has no layers", id="a-raw-layer"),
    ],
)
def test_a_wrong_value_is_named_in_the_preview(wrong: Stack, properties: dict[str, Any], said: str) -> None:
    assert said in wrong.preview([volume("wrong", pool="x", **properties)], fails=True).output


def test_what_cannot_be_made_is_told_with_the_way_out(
    new_stack: Callable[[str], Stack], changes: dict[str, str], place: Path, connection: Any
) -> None:
    stack = new_stack("refused")
    (place / "disks/foreign").write_bytes(b"precious")
    connection.storagePoolLookupByName("disks").refresh()
    cases = {
        "foreign": ({"size": MIB}, "volume foreign in pool disks is already there on"),
        "lost": ({"size": MIB, "pool": "nowhere"}, "there is no storage pool nowhere"),
        "baseless": ({"base_volume_name": "nothing"}, "there is no base volume nothing in pool disks"),
        "small": ({"base_volume_name": "image", "size": MIB}, "is smaller than its base volume's"),
        "cut": ({"source": str(place / "raw"), "size": MIB}, "is smaller than the disk in it"),
        "form": ({"source": str(place / "raw"), "format": "qcow2"}, "format qcow2 is asked, and the file is raw"),
    }
    declared = [volume(name, **{"pool": "disks", **properties}) for name, (properties, _) in cases.items()]
    run = stack.up(declared, "--continue-on-error", fails=True)
    assert {name: said in run.diagnostics.get(name, "") for name, (_, said) in cases.items()} == dict.fromkeys(
        cases, True
    ), run.output
    assert (place / "disks/foreign").read_bytes() == b"precious"
    (place / "disks/foreign").unlink()
    connection.storagePoolLookupByName("disks").refresh()


def test_a_full_pool_is_named(new_stack: Callable[[str], Stack], place: Path) -> None:
    small = place / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], check=True)
    folder = Path(tempfile.mkdtemp(prefix="sampan-pf-", dir="/var/lib"))
    libvirtd = Libvirtd(folder)  # one that was started before the mount might not see it
    made = new_stack("full")
    stack = replace(made, environment={**made.environment, "LIBVIRT_DEFAULT_URI": libvirtd.uri})
    try:
        libvirtd.start()
        run = stack.up([pool("disks", small), volume("big", source=str(place / "raw"))], fails=True)
        assert "volume big" in run.diagnostics["big"]
        assert "the pool disks has" in run.diagnostics["big"]
        assert "It needs 3 MiB" in run.diagnostics["big"]
        assert list(small.iterdir()) == []
        stack.destroy()
    finally:
        libvirtd.remove()
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["umount", small], check=True)


def test_a_volume_can_be_imported(
    new_stack: Callable[[str], Stack], changes: dict[str, str], place: Path, connection: Any
) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", place / "disks/old", "5M"], check=True)
    connection.storagePoolLookupByName("disks").refresh()
    stack = new_stack("importing")
    stack.adopt("Volume", "old", str(place / "disks/old"))
    run = stack.up([volume("old", pool="disks", size=5 * MIB, format="qcow2")])
    assert run.unlike_same == {}, run.changed
    assert stack.destroy().operations == {"old": "delete"}
    assert not (place / "disks/old").exists()


def test_two_stacks_at_once_share_a_pool(
    new_stack: Callable[[str], Stack], changes: dict[str, str], place: Path
) -> None:
    stacks = [new_stack("left"), new_stack("right")]
    for stack in stacks:
        names = [f"{stack.name}-{index}" for index in range(4)]
        stack.declare([volume(name, pool="disks", source=str(place / "raw")) for name in names])
    running = [stack.start("up", "--yes", "--skip-preview") for stack in stacks]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert all((place / f"disks/{stack.name}-{n}").read_bytes() == CONTENT for stack in stacks for n in range(4))
    taken = stacks[1].up([volume("left-0", pool="disks", size=MIB)], fails=True)
    assert "volume left-0 in pool disks is already there" in taken.output
    assert (place / "disks/left-0").read_bytes() == CONTENT


def test_destroy_leaves_nothing(changes: dict[str, str], connection: Any, stack: Stack, place: Path) -> None:
    began = time.monotonic()
    destroyed = stack.destroy()
    assert set(destroyed.operations.values()) == {"delete"}
    assert time.monotonic() - began < LIMIT_S
    assert [each.name() for each in connection.listAllStoragePools() if each.name() in ("disks", "more")] == []
    assert not (place / "more").exists()
