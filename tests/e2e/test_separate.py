"""A second lab beside the first, its components separate, so that one can be stopped and its absence seen."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lab import Lab, eventually
from tests.e2e.manifests import pod


@pytest.fixture
def separate(lab: Lab, tmp_path: Path) -> Iterator[Lab]:
    name = f"sep{os.getpid()}"
    made = Lab(name, tmp_path / "kubeconfig")
    try:
        made.sampan(
            "up", "--name", name, "--workers", "1", "--separate", "--kubeconfig", str(made.kubeconfig), timeout_s=600
        )
        yield made
    finally:
        made.sampan("down", "--name", name)


def traces(name: str) -> list[str]:
    """What carries a lab's name on this machine: mounts, links, tables, processes, folders."""
    shown = [
        *Path("/proc/self/mounts").read_text().splitlines(),
        *subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines(),
        *subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout.splitlines(),
        *(str(path) for folder in ("/var/lib/sampan-labs", "/run") for path in Path(folder).glob("*")),
    ]
    return [line for line in shown if name in line]


def test_without_a_scheduler_a_pod_waits_and_with_it_it_runs(separate: Lab, lab: Lab) -> None:
    running = {line.split()[0] for line in separate.sampan("status", "--name", separate.name).splitlines()}
    assert {"api-server", "scheduler", "controller-manager", "porter", "proxy", "dns", "kubelet"} <= running
    assert {"True"} == {
        condition["status"]
        for node in lab.json("get", "nodes")["items"]
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    }, "the first lab is not disturbed"
    separate.sampan("fault", "stop-component", "scheduler", "--name", separate.name)
    eventually(lambda: separate.kubectl("get", "serviceaccount", "default"), "the default service account")
    separate.kubectl("apply", "-f", "-", stdin=pod("waits", {"image": "sampan.local/pause:1"}))
    answer = separate.kubectl("wait", "pod/waits", "--for=condition=PodScheduled", "--timeout=3s", check=False)
    assert "timed out" in answer
    separate.sampan("fault", "heal", "--name", separate.name)
    separate.kubectl("wait", "pod/waits", "--for=condition=Ready", "--timeout=60s")


def test_down_leaves_nothing_and_up_again_repairs(lab: Lab, tmp_path: Path) -> None:
    name = f"gone{os.getpid()}"
    kubeconfig = tmp_path / "kubeconfig"
    try:
        lab.sampan("up", "--name", name, "--workers", "0", "--kubeconfig", str(kubeconfig), timeout_s=600)
        assert traces(name)
        lab.sampan("fault", "stop-component", "server", "--name", name)
        lab.sampan("up", "--name", name, "--workers", "0", "--kubeconfig", str(kubeconfig), timeout_s=600)
        assert "Ready" in Lab(name, kubeconfig).kubectl("get", "nodes")
    finally:
        lab.sampan("down", "--name", name)
    assert traces(name) == []
    assert name not in kubeconfig.read_text() if kubeconfig.exists() else True
