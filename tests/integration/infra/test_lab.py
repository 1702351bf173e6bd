"""A lab from its user's side: the `sampan` command, the kubeconfig context, repair, and nothing left at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local import lab as labs
from infra.local.layout import Layout
from infra.topology import Topology
from tests.integration.infra.traces import eventually, nothing_is_left

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespace nodes need root")


@dataclass(frozen=True)
class Lab:
    name: str
    kubeconfig: Path

    def sampan(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infra.cli", arguments[0], "--name", self.name, *arguments[1:]]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def up(self, *arguments: str) -> str:
        return self.sampan("up", "--kubeconfig", str(self.kubeconfig), *arguments).stdout

    def status(self) -> dict[str, Any]:
        seen: dict[str, Any] = json.loads(self.sampan("status", "-o", "json").stdout)
        return seen

    def pids(self) -> dict[str, int]:
        seen = self.status()
        pids = {f"{one['node']}/{one['name']}": one["pid"] for one in seen["components"]}
        return pids | {node["name"]: node["pid"] for node in seen["nodes"]}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(f"cli{os.getpid()}", tmp_path_factory.mktemp("kube") / "config")
    made.kubeconfig.write_text(
        yaml.safe_dump({"contexts": [{"name": "mine", "context": {}}], "current-context": "mine"})
    )
    try:
        made.up("--workers", "1")
        yield made
    finally:
        made.sampan("down")


def test_up_adds_its_context_beside_the_users_own(lab: Lab) -> None:
    config = yaml.safe_load(lab.kubeconfig.read_text())
    assert [context["name"] for context in config["contexts"]] == ["mine", f"sampan-{lab.name}"]
    assert config["current-context"] == f"sampan-{lab.name}"
    own = yaml.safe_load(lab.sampan("kubeconfig").stdout)
    assert own["clusters"] == config["clusters"]


def test_status_tells_nodes_and_components(lab: Lab) -> None:
    seen = lab.status()
    assert seen["api"] == "ready"
    assert {(node["name"], node["state"], node["ready"]) for node in seen["nodes"]} == {
        ("control-plane-1", "running", "True"),
        ("worker-1", "running", "True"),
    }
    assert {one["name"] for one in seen["components"] if one["node"] == "worker-1"} == {"podman", "node", "kubelet"}
    assert "worker-1" in lab.sampan("status").stdout


def test_ssh_runs_a_command_with_its_exit_code(lab: Lab) -> None:
    assert lab.sampan("ssh", "worker-1", "hostname").stdout == "worker-1\n"
    assert lab.sampan("ssh", "--user", "sampan", "worker-1", "id", "-un").stdout == "sampan\n"
    assert lab.sampan("ssh", "worker-1", "sh", "-c", "exit 7", check=False).returncode == 7


def test_logs_are_those_of_the_component(lab: Lab) -> None:
    assert "serving" in lab.sampan("logs", "server").stdout
    assert "node registered" in lab.sampan("logs", "--node", "worker-1", "kubelet").stdout
    wrong = lab.sampan("logs", "nothing", check=False)
    assert wrong.returncode == 1
    assert "no log of nothing" in wrong.stderr
    assert "kubelet" in wrong.stderr


def test_up_again_changes_nothing(lab: Lab) -> None:
    before = lab.pids()
    lab.up()
    assert lab.pids() == before


def test_up_repairs_a_killed_component_and_a_lost_node(lab: Lab) -> None:
    before = lab.pids()
    os.kill(before["worker-1/kubelet"], 9)
    os.kill(before["control-plane-1/server"], 9)
    subprocess.run(
        [sys.executable, "-m", "infra.cli", "fault", "kill-node", "--name", lab.name, "worker-1"], cwd=ROOT, check=True
    )
    eventually(lambda: lab.pids()["worker-1"] == 0, "the node is not off")
    lab.up()
    after = lab.pids()
    assert all(after.values()), after
    assert after["worker-1"] != before["worker-1"]
    assert after["control-plane-1"] == before["control-plane-1"]


def test_a_lab_that_is_not_there_is_told_with_those_that_are(lab: Lab) -> None:
    wrong = Lab("nowhere", lab.kubeconfig).sampan("status", check=False)
    assert wrong.returncode == 1
    assert "there is no lab 'nowhere'" in wrong.stderr
    assert lab.name in wrong.stderr


def test_down_takes_everything_away_and_again_is_harmless(lab: Lab) -> None:
    topology = labs.load(Layout(lab.name))
    assert topology is not None
    lab.sampan("down")
    nothing_is_left(topology)
    assert [context["name"] for context in yaml.safe_load(lab.kubeconfig.read_text())["contexts"]] == ["mine"]
    assert "nothing to do" in lab.sampan("down").stdout


def test_down_after_a_half_failed_up_leaves_nothing(tmp_path: Path) -> None:
    made = Lab(f"half{os.getpid()}", tmp_path / "config")
    topology, control = labs.nodes_up(Topology(name=made.name, workers=1), print)  # and there `up` was interrupted
    os.kill(control.ask("status")["pid"], 9)
    made.sampan("down")
    nothing_is_left(topology)


def test_a_wrong_wish_names_the_field(tmp_path: Path) -> None:
    made = Lab("Wrong_Name", tmp_path / "config")
    wrong = made.sampan("up", check=False)
    assert wrong.returncode == 1
    assert "name: 'Wrong_Name': must be a DNS label" in wrong.stderr
