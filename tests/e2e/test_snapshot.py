"""A whole lab kept and put back: what ran then runs again, what was written since is gone, saving disturbs nobody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.lab import ROOT, Failed, Lab, eventually
from tests.e2e.manifests import deployment, dump, pod, service, web

DATA = "/var/lib/sampan/snapshot-test"  # a folder of the node
WRITER = {
    "image": "sampan.local/busybox:1",
    "command": ["sh", "-c", "while :; do date +%s >> /data/ticks; sleep 0.2; done"],
    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
}


CLAIM = dump(
    "v1", "PersistentVolumeClaim", "disk",
    spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
)  # fmt: skip
DISK = {"volumes": [{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}]}
KEEPER = {
    "image": "sampan.local/busybox:1",
    "command": ["sleep", "36000"],
    "volumeMounts": [{"name": "disk", "mountPath": "/disk"}],
}


class Saved(Lab):
    """A lab of its own, with a workload."""

    def snapshot(self, *arguments: str, check: bool = True) -> str:
        return self.sampan("snapshot", arguments[0], "--name", self.name, *arguments[1:], check=check)

    def on_worker(self, command: str) -> str:
        return self.sampan("ssh", "--name", self.name, "worker-1", "sh", "-c", command)

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.json("get", *arguments)["items"]
        return items

    def names(self, kind: str) -> set[str]:
        return {item["metadata"]["name"] for item in self.get(kind)}

    def restarts(self) -> dict[str, int]:
        return {
            item["metadata"]["name"]: sum(state["restartCount"] for state in item["status"]["containerStatuses"])
            for item in self.get("pods")
        }

    def in_keeper(self, command: str) -> str:
        return self.kubectl("exec", "keeper", "--", "sh", "-c", command).strip()

    def answer(self) -> str:
        """Of the service `web`, asked on the worker: through its proxy, from a pod."""
        address = self.json("get", "service", "web")["spec"]["clusterIP"]
        return self.on_worker(f"timeout 5 busybox wget -qO- http://{address}/").strip()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    name = f"snap{os.getpid()}"
    made = Saved(name, tmp_path_factory.mktemp("lab") / "kubeconfig")
    try:
        made.sampan("up", "--name", name, "--workers", "1", "--kubeconfig", str(made.kubeconfig), timeout_s=900)
        eventually(lambda: made.kubectl("get", "serviceaccount", "default"), "the default service account")
        volume = {"volumes": [{"name": "data", "hostPath": {"path": DATA, "type": "DirectoryOrCreate"}}]}
        made.kubectl("apply", "-f", "-", stdin=deployment("web", web("first"), replicas=2))
        made.kubectl("apply", "-f", "-", stdin=service("web", 80, 8080))
        made.kubectl("apply", "-f", "-", stdin=pod("writer", WRITER, nodeName="worker-1", **volume))
        made.kubectl("apply", "-f", "-", stdin=CLAIM + pod("keeper", KEEPER, **DISK))
        made.kubectl("create", "configmap", "then", "--from-literal=key=value")
        made.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
        made.kubectl("wait", "pod/writer", "pod/keeper", "--for=condition=Ready", "--timeout=90s")
        yield made
    finally:
        made.sampan("down", "--name", name)


def test_saving_disturbs_nobody(saved: Saved) -> None:
    before = {item["metadata"]["uid"]: item["status"] for item in saved.get("pods")}
    saved.in_keeper("echo then > /disk/word")  # not synced: the snapshot sees to it
    failures: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                saved.kubectl("get", "configmap", "then")
            except Failed as error:
                failures.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    made = json.loads(saved.snapshot("save", "first", "-o", "json"))
    done.set()
    asking.join()
    assert failures == []
    assert made["paused_s"] < 2
    assert made["size_bytes"] > 1_000_000
    assert {item["metadata"]["uid"]: item["status"] for item in saved.get("pods")} == before
    assert set(saved.restarts().values()) == {0}
    ticks = saved.on_worker(f"wc -l < {DATA}/ticks")
    eventually(lambda: int(saved.on_worker(f"wc -l < {DATA}/ticks")) > int(ticks), "the writer stands still")


def test_restored_it_is_as_it_was_and_serves(saved: Saved) -> None:
    saved.kubectl("delete", "configmap", "then")
    saved.kubectl("create", "configmap", "since", "--from-literal=key=value")
    saved.kubectl("delete", "deployment", "web")
    saved.kubectl("wait", "pods", "-l", "app=web", "--for=delete", "--timeout=60s")
    saved.on_worker(f"echo since >> {DATA}/since")
    saved.in_keeper("echo since > /disk/word; sync")
    since = int(saved.on_worker("date +%s"))
    saved.snapshot("restore", "first")
    assert saved.answer() == "first"
    assert "then" in saved.names("configmaps")
    assert "since" not in saved.names("configmaps")
    assert saved.on_worker(f"ls {DATA}").split() == ["ticks"]
    assert saved.restarts() == dict.fromkeys(saved.restarts(), 1)
    assert len(saved.restarts()) == 4
    assert saved.in_keeper("cat /disk/word") == "then"
    eventually(lambda: int(saved.on_worker(f"tail -n 1 {DATA}/ticks")) >= since, "the writer does not write")


def test_the_restored_lab_goes_on_as_any_other(saved: Saved) -> None:
    saved.kubectl("scale", "deployment/web", "--replicas=3")
    saved.kubectl("set", "env", "deployment/web", "VERSION=second")
    saved.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    eventually(lambda: saved.answer() == "second", "the new version does not answer")
    saved.sampan("up", "--name", saved.name, "--kubeconfig", str(saved.kubeconfig))
    assert saved.answer() == "second"


def test_a_lab_of_another_shape_gets_its_old_one_back(saved: Saved) -> None:
    saved.sampan("up", "--name", saved.name, "--workers", "2", "--kubeconfig", str(saved.kubeconfig))
    assert saved.names("nodes") == {"control-plane-1", "worker-1", "worker-2"}
    saved.snapshot("save", "wider")
    saved.snapshot("restore", "first")
    assert saved.names("nodes") == {"control-plane-1", "worker-1"}
    assert saved.answer() == "first"
    saved.snapshot("restore", "wider")
    assert saved.names("nodes") == {"control-plane-1", "worker-1", "worker-2"}
    assert saved.answer() == "second"


def test_snapshots_are_listed_and_deleted(saved: Saved) -> None:
    found = json.loads(saved.snapshot("list", "-o", "json"))
    assert [one["name"] for one in found] == ["first", "wider"]
    assert "wider" in saved.snapshot("list")
    saved.snapshot("delete", "wider")
    assert [one["name"] for one in json.loads(saved.snapshot("list", "-o", "json"))] == ["first"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("restore", "nothing"), ["no snapshot 'nothing'", "there are: first"], id="unknown"),
        pytest.param(("delete", "nothing"), ["no snapshot 'nothing'"], id="delete-unknown"),
        pytest.param(("save", "first"), ["a snapshot 'first' already", "snapshot delete first"], id="taken"),
        pytest.param(("save", "Upper_Case"), ["must be a DNS label"], id="no-name"),
        pytest.param(("restore", "../first"), ["must be a DNS label"], id="a-path"),
    ],
)
def test_what_cannot_be_is_told(saved: Saved, arguments: tuple[str, ...], words: list[str]) -> None:
    told = " ".join(saved.snapshot(*arguments, check=False).split())
    assert all(word in told for word in words), told


def test_a_lab_that_is_not_there_has_no_snapshots(lab: Lab) -> None:
    assert "there is no lab 'nowhere'" in lab.sampan("snapshot", "list", "--name", "nowhere", check=False)


def test_a_killed_save_leaves_the_lab_running(saved: Saved) -> None:
    """Killed while everything stands still: the lab thaws by itself."""
    script = (
        "import sys, time; from infra.local.layout import Layout; from infra.snapshot_freezer import frozen\n"
        "with frozen(Layout(sys.argv[1])): print('frozen', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, saved.name], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "frozen\n"
        with pytest.raises(subprocess.TimeoutExpired):
            saved.kubectl("get", "nodes", timeout_s=1)
        holding.send_signal(signal.SIGKILL)
    eventually(lambda: saved.kubectl("get", "nodes", "--request-timeout=5s"), "the lab stands still for ever")


def test_down_takes_the_snapshots_along(saved: Saved) -> None:
    saved.sampan("down", "--name", saved.name)
    assert "there is no lab" in saved.snapshot("list", check=False)
