"""The wider cases of a lab's life: several workers, kills at any moment, plain Pulumi in labs/, many minutes each."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.libvirt import registry
from tests.e2e.lab import ROOT, eventually
from tests.e2e.vm.machines import VmLab, leftovers

pytestmark = [pytest.mark.wide, pytest.mark.timeout(5400)]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[VmLab]:
    made = VmLab(f"wide{os.getpid()}", tmp_path / "kubeconfig")
    try:
        yield made
    finally:
        made.sampan("down", "--name", made.name, timeout_s=900)


def boot_ids(lab: VmLab) -> dict[str, str]:
    return {
        node["metadata"]["name"]: node["status"]["nodeInfo"]["bootID"] for node in lab.json("get", "nodes")["items"]
    }


def test_workers_come_grow_one_after_the_other_and_go_drained(lab: VmLab) -> None:
    lab.up("--backend", "libvirt", "--workers", "1")
    lab.kubectl("create", "deployment", "web", "--image=nginx:1", "--replicas=2")
    lab.kubectl("rollout", "status", "deployment/web", "--timeout=300s", timeout_s=310)
    before = boot_ids(lab)

    said = lab.up("--workers", "2")
    assert "node worker-2 is Ready" in said
    assert "worker-1" not in "".join(line for line in said.splitlines() if "is Ready" in line)
    after = boot_ids(lab)
    assert after.items() > before.items()

    lab.configure("worker.memoryMib", "1700")
    lowest = _lowest_while(lab, lambda: lab.up())
    assert lowest >= 1  # of two replicas
    assert all(boot_ids(lab)[worker] != after[worker] for worker in ("worker-1", "worker-2"))
    assert boot_ids(lab)["control-plane-1"] == after["control-plane-1"]

    topology = lab.topology
    lowest = _lowest_while(lab, lambda: lab.up("--workers", "1"))
    assert lowest >= 1
    assert set(boot_ids(lab)) == {"control-plane-1", "worker-1"}
    eventually(lambda: lab.pods_are_ready("app=web", 2), "both replicas on the worker that is left", timeout_s=300)
    assert f"{lab.name}-worker-2" not in lab.virsh("list", "--all", "--name")
    assert not (registry.folder(lab.name) / "pool" / f"{lab.name}-worker-2.qcow2").exists()
    lab.sampan("down", "--name", lab.name, timeout_s=900)
    assert leftovers(lab, topology) == []


def _lowest_while(lab: VmLab, work: object) -> int:
    """How many replicas of the deployment were ready at the worst moment of the work."""
    command = lab.command("get", "deployment", "web", "-w", "-o", "jsonpath={.status.readyReplicas}{'\\n'}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as watch:
        try:
            work()  # type: ignore[operator]
        finally:
            watch.terminate()
        assert watch.stdout is not None
        return min(int(line or 0) for line in watch.stdout.read().splitlines())


@pytest.mark.parametrize("word", ["keys lab made", "volume base", "machine control-plane-1 made", "starting"])
def test_an_up_killed_at_any_moment_is_finished_by_the_next(lab: VmLab, word: str) -> None:
    lab.kill_up_at(word, "--backend", "libvirt", "--workers", "0")
    said = lab.up()
    assert "an earlier command was killed" in said
    assert [node["metadata"]["name"] for node in lab.json("get", "nodes")["items"]] == ["control-plane-1"]
    again = lab.up()
    assert "an earlier command was killed" not in again
    assert "is Ready" not in again


def test_plain_pulumi_finishes_an_up_that_was_killed(lab: VmLab) -> None:
    assert lab.environment  # a shell that was set up before
    lab.kill_up_at("machine control-plane-1 made", "--backend", "libvirt", "--workers", "0")
    assert "delete the lock file with `pulumi cancel`" in " ".join(lab.pulumi("up", "--yes", check=False).split())
    lab.pulumi("cancel", "--yes")
    lab.pulumi("up", "--yes")
    assert "is Ready" not in lab.up()
    assert [node["metadata"]["name"] for node in lab.json("get", "nodes")["items"]] == ["control-plane-1"]


def test_plain_pulumi_in_labs_minimal(tmp_path: Path) -> None:
    """As its README says, on a copy, so that the checkout stays clean."""
    lab = VmLab("minimal", tmp_path / "kubeconfig")
    assert registry.read("minimal") is None, "a lab of that name is here already"
    folder = tmp_path / "labs/minimal"
    shutil.copytree(ROOT / "labs/minimal", folder, ignore=shutil.ignore_patterns("Pulumi.*.yaml"))
    (tmp_path / "infra").symlink_to(ROOT / "infra")  # the plugin's path is relative

    def pulumi(*arguments: str) -> str:
        done = subprocess.run(
            ["pulumi", *arguments], cwd=folder, env=lab.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pulumi("stack", "init", "dev")
    try:
        pulumi("up", "--yes")
        assert "unchanged" in pulumi("preview", "--expect-no-changes")
        topology = lab.topology
        assert lab.sampan("kubeconfig", "--name", "minimal") == lab.admin_kubeconfig()
        assert pulumi("stack", "output", "api_endpoint").strip() == topology.server
    finally:
        pulumi("destroy", "--yes")
        pulumi("stack", "rm", "--yes", "--remove-backups")
    # Of a stack that its own command removed, Pulumi keeps the empty folders.
    assert [found for found in leftovers(lab, topology) if not Path(found).is_dir()] == []


def test_all_machines_and_libvirtd_stopped_and_started(lab: VmLab) -> None:
    lab.up("--backend", "libvirt", "--workers", "1")
    lab.kubectl("create", "deployment", "web", "--image=nginx:1")
    lab.kubectl("rollout", "status", "deployment/web", "--timeout=300s", timeout_s=310)
    before = boot_ids(lab)
    for node in ("control-plane-1", "worker-1"):
        lab.virsh("destroy", f"{lab.name}-{node}")
    lab.sampan("fault", "heal", "--name", lab.name)
    began = time.monotonic()
    eventually(lambda: all(boot_ids(lab)[name] != before[name] for name in before), "both have booted", timeout_s=600)
    eventually(lambda: lab.pods_are_ready("app=web", 1), "the workload serves again", timeout_s=600)
    print(f"from power-on to the workload: {time.monotonic() - began:.0f} s")
