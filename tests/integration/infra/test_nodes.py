"""Namespace nodes without Kubernetes: they boot, run rootless containers, come back after a kill, and leave nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.images.archive import Directory, Image, Text, write
from infra.install import steps
from infra.local import container_images, lab
from infra.local.control import Control
from infra.local.layout import HOST_NODE, Layout, bridge, host_link
from infra.topology import Topology
from tests.integration.infra.traces import eventually, leftovers, nothing_is_left

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespace nodes need root")


@pytest.fixture(scope="module")
def booted() -> Iterator[tuple[Topology, Control]]:
    name = f"it{os.getpid()}"
    try:
        topology, control = lab.nodes_up(Topology(name=name, workers=1), print)
        for node in topology.nodes:
            steps.prepare_node(control.shell(node.name), topology, node)
        yield topology, control
    finally:
        lab.down(name)


def podman(control: Control, *arguments: str) -> str:
    return control.run("worker-1", ["podman", *arguments], user="sampan").decode()


def test_the_user_runs_a_container_of_the_shared_images(booted: tuple[Topology, Control]) -> None:
    _, control = booted
    script = "touch /written && stat -c %u /written && id -u && cat /etc/passwd | wc -l"
    said = podman(control, "run", "--rm", "--network=none", "--pull=never", "busybox:1", "sh", "-c", script)
    assert said.split() == ["0", "0", "4"]


def test_an_id_of_a_container_is_the_nodes_user_plus_it(booted: tuple[Topology, Control]) -> None:
    topology, control = booted
    user = topology.node("worker-1").user_id
    volume = "/var/lib/sampan/home/owned"
    control.run("worker-1", ["install", "-d", "-m", "777", volume])
    podman(control, "run", "--rm", "--network=none", "-v", f"{volume}:/v", "--user=1234", "busybox:1", "touch", "/v/f")
    assert control.run("worker-1", ["stat", "-c", "%u", f"{volume}/f"]) == f"{user + 1234}\n".encode()


def test_the_offline_images_are_there_under_their_names(booted: tuple[Topology, Control]) -> None:
    names = set(podman(booted[1], "images", "--format", "{{.Repository}}:{{.Tag}}").split())
    ours = {f"sampan.local/{image}:1" for image in ("pause", "busybox", "nginx", "echo")}
    assert ours | {"docker.io/library/busybox:1", "docker.io/library/nginx:1"} <= names


@pytest.mark.parametrize("family", [4, 6])
def test_host_and_nodes_reach_each_other(booted: tuple[Topology, Control], family: int) -> None:
    topology, control = booted
    other = topology.control_plane
    gateway = topology.gateway[0 if family == 4 else 1]
    for address in (other.address_v4 if family == 4 else other.address_v6, str(gateway)):
        control.run("worker-1", ["ping", "-c1", "-W2", address])


def test_the_users_control_group_is_its_own(booted: tuple[Topology, Control]) -> None:
    _, control = booted
    control.run("worker-1", ["mkdir", "-p", "/sys/fs/cgroup/user/kubepods"], user="sampan")
    assert b"0::/user/service" in control.run("worker-1", ["cat", "/proc/self/cgroup"], user="sampan")


def test_a_component_that_dies_is_started_again(booted: tuple[Topology, Control]) -> None:
    _, control = booted
    component = {"node": "worker-1", "name": "sleeper", "user": "sampan", "arguments": ["/usr/bin/sleep", "1000"]}
    control.ask("components", components=[component])

    def pid() -> int:
        (seen,) = control.ask("status")["components"]
        return int(seen["pid"])

    eventually(pid, "the component was not started")
    first = pid()
    os.kill(first, 9)
    eventually(lambda: pid() not in (0, first), "the component was not started again")
    control.ask("component", node="worker-1", name="sleeper", action="stop")
    eventually(lambda: pid() == 0, "the component was not stopped")
    control.ask("component", node="worker-1", name="sleeper", action="start")
    eventually(pid, "the component was not started after a stop")
    control.ask("components", components=[])
    assert control.ask("status")["components"] == []


def test_a_killed_node_comes_back_with_its_files(booted: tuple[Topology, Control]) -> None:
    _, control = booted
    control.run("worker-1", ["sh", "-c", "echo kept > /etc/kept"])
    before = control.shell("worker-1").pid
    control.ask("node", node="worker-1", action="kill")
    eventually(lambda: _pid(control) not in (0, before), "the node did not come back")
    assert control.run("worker-1", ["cat", "/etc/kept"]) == b"kept\n"
    podman(control, "run", "--rm", "--network=none", "busybox:1", "true")


def test_a_stopped_node_stays_off(booted: tuple[Topology, Control]) -> None:
    _, control = booted
    control.ask("node", node="worker-1", action="stop")
    eventually(lambda: _pid(control) == 0, "the node did not stop")
    with pytest.raises(RuntimeError, match="is not running"):
        control.shell("worker-1")
    control.ask("node", node="worker-1", action="start")
    eventually(lambda: _pid(control) != 0, "the node did not start")


def _pid(control: Control) -> int:
    return int(control.ask("status")["nodes"]["worker-1"]["pid"])


def test_unknown_things_are_named(booted: tuple[Topology, Control]) -> None:
    _, control = booted
    with pytest.raises(RuntimeError, match="has no node worker-9; it has control-plane-1, worker-1"):
        control.shell("worker-9")
    with pytest.raises(RuntimeError, match="has no component x"):
        control.ask("component", node="worker-1", name="x", action="kill")
    with pytest.raises(RuntimeError, match="exit code 3"):
        control.run("worker-1", ["sh", "-c", "exit 3"])


def test_down_leaves_nothing_even_of_a_lab_whose_supervisor_was_killed() -> None:
    topology, control = lab.nodes_up(Topology(name=f"gone{os.getpid()}", workers=0), print)
    steps.prepare_node(control.shell("control-plane-1"), topology, topology.control_plane)
    command = ["podman", "run", "-d", "--network=none", "busybox:1", "sleep", "1000"]
    control.run("control-plane-1", command, user="sampan")
    os.kill(control.ask("status")["pid"], 9)
    assert leftovers(topology)
    assert lab.down(topology.name)
    # The dead orphans are this machine's init's to reap, which takes its moment.
    nothing_is_left(topology)
    assert not lab.down(topology.name)


def test_two_labs_side_by_side_do_not_clash(booted: tuple[Topology, Control]) -> None:
    first, _ = booted
    second, control = lab.nodes_up(Topology(name=f"two{os.getpid()}", workers=0), print)
    try:
        assert (second.index, second.server) != (first.index, first.server)
        subprocess.run(["nsenter", "-t", str(control.shell("control-plane-1").pid), "-n", "true"], check=True)
    finally:
        lab.down(second.name)
    assert Path("/sys/class/net", bridge(first)).exists()


def test_a_lab_gains_and_loses_a_worker_and_the_others_stay(booted: tuple[Topology, Control]) -> None:
    first, control = booted
    before = control.ask("status")["nodes"]
    more, _ = lab.nodes_up(Topology(name=first.name, workers=2), print)
    after = control.ask("status")["nodes"]
    assert after["worker-2"]["pid"]
    sleeper = {"node": "worker-2", "name": "sleeper", "user": "sampan", "arguments": ["/usr/bin/sleep", "1000"]}
    control.ask("components", components=[sleeper])
    eventually(lambda: control.ask("status")["components"][0]["pid"], "its component is not started")
    assert {name: after[name]["pid"] for name in before} == {name: seen["pid"] for name, seen in before.items()}
    lab.nodes_up(Topology(name=first.name, workers=1), print)
    assert set(control.ask("status")["nodes"]) == set(before)
    assert not Layout(first.name).node("worker-2").exists()
    eventually(lambda: not Path("/sys/class/net", host_link(more, more.node("worker-2"))).exists(), "its cable stays")


def test_a_component_of_the_host_lives_in_its_network_and_with_the_lab(booted: tuple[Topology, Control]) -> None:
    topology, control = booted
    sleeper = {"node": HOST_NODE, "name": "sleeper", "user": "root", "arguments": ["/usr/bin/sleep", "1000"]}

    def pid() -> int:
        return next((one["pid"] for one in control.ask("status")["components"] if one["name"] == "sleeper"), 0)

    control.ask("components", components=[sleeper])
    eventually(pid, "it is not started")
    first = pid()
    for namespace in ("net", "pid"):
        where = [Path(f"/proc/{process}/ns/{namespace}").readlink() for process in (first, "self")]
        assert where[0] == where[1], namespace
    group = f"/sampan-{topology.name}/{HOST_NODE}"
    eventually(lambda: group in Path(f"/proc/{first}/cgroup").read_text(), "down would not end it")
    control.ask("component", node=HOST_NODE, name="sleeper", action="kill")
    eventually(lambda: pid() not in (0, first), "it is not started again")
    control.ask("components", components=[])
    eventually(lambda: not pid(), "it is still listed")


def test_an_archive_is_loaded_onto_every_node(booted: tuple[Topology, Control], tmp_path: Path) -> None:
    _, control = booted
    image = Image(names=("example.test/made:2",), files={"/": Directory(), "/x": Text("x")}, command=("/x",))
    write(image, "amd64", tmp_path / "made.tar")
    assert container_images.load(control, tmp_path / "made.tar", control.running_nodes()) == ["example.test/made:2"]
    (entry,) = [entry for entry in container_images.listed(control) if entry["name"] == "example.test/made:2"]
    assert entry["nodes"] == ["control-plane-1", "worker-1"]
