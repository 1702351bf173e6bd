"""Killing things under a running workload: traffic goes on, nothing acknowledged is lost, what was lost comes back."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.lab import Lab, eventually
from tests.e2e.manifests import client, deployment, service, web

PROBE = "timeout 5 wget -qO- http://$address/ || echo FAILED; usleep 50000"


@pytest.fixture
def traffic(kubectl: Callable[..., str], lab: Lab, namespace: str) -> Iterator[subprocess.Popen[str]]:
    """A client that asks a service, by its address, and prints each answer: packets must flow with every component
    dead. It runs by the node's own means, not through the API server, which is among what is killed."""
    kubectl("apply", "-f", "-", stdin=deployment("web", web("one"), replicas=2) + service("web", 80, 8080) + client())
    kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    kubectl("wait", "pod/client", "--for=condition=Ready", "--timeout=60s")
    eventually(lambda: kubectl("exec", "client", "--", "wget", "-qO-", "http://web/") == "one\n", "an answer")
    pod = json.loads(kubectl("get", "pod", "client", "-o", "json"))
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("podman://")
    address = kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    script = f"address={address}; while [ ! -e /tmp/stop ]; do {PROBE}; done"
    inside = f"podman exec {container} sh -c '{script}'"
    asking = subprocess.Popen(
        sampan(lab, pod["spec"]["nodeName"], inside), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    yield asking
    asking.kill()
    asking.wait()


def sampan(lab: Lab, node: str, command: str) -> list[str]:
    return [lab.program, "ssh", "--name", lab.name, "--user", "sampan", node, "sh", "-c", command]


def finish(asking: subprocess.Popen[str], kubectl: Callable[..., str]) -> list[str]:
    eventually(lambda: kubectl("exec", "client", "--", "touch", "/tmp/stop") == "", "exec after all was killed")
    answers, _ = asking.communicate(timeout=60)
    return answers.split()


def create_or_find(kubectl: Callable[..., str], name: str) -> bool:
    """An answer may be lost when its server is killed: then the object is there at the next try."""
    made = kubectl("create", "configmap", name, "-o", "name", check=False)
    return f"configmap/{name}" in (made, made.strip()) or "already exists" in made


def components(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lab.sampan("status", "--name", lab.name, "-o", "json"))["components"]
    return found


def all_running(lab: Lab) -> bool:
    return all(component["state"] == "running" for component in components(lab))


def test_each_component_killed_in_turn(kubectl: Callable[..., str], lab: Lab, traffic: subprocess.Popen[str]) -> None:
    for component in components(lab):
        if component["name"] == "podman":
            continue  # not ours; the kubelet's own tests restart it
        lab.sampan("fault", "kill-component", component["name"], "--node", component["node"], "--name", lab.name)
        eventually(lambda: all_running(lab), f"{component['name']} running again")
        name = f"after-{component['name']}-{component['node']}"
        eventually(lambda name=name: create_or_find(kubectl, name), "a write afterwards")
    eventually(lambda: lab.kubectl("wait", "nodes", "--all", "--for=condition=Ready", "--timeout=5s"), "nodes Ready")
    answers = finish(traffic, kubectl)
    assert len(answers) > 20
    assert set(answers) == {"one"}, f"{answers.count('FAILED')} of {len(answers)} requests failed"
    assert kubectl("get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}") == "0 0 0"


def test_all_components_killed_at_once_lose_no_acknowledged_write(
    kubectl: Callable[..., str], lab: Lab, traffic: subprocess.Popen[str], namespace: str
) -> None:
    writer = subprocess.Popen(
        ["sh", "-c", f"for i in $(seq 200); do kubectl --kubeconfig={lab.kubeconfig} -n {namespace}"
         " create configmap w-$i -o name 2>/dev/null; done"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdout is not None
    acknowledged = [writer.stdout.readline().strip() for _ in range(20)]
    pids = [str(component["pid"]) for component in components(lab) if component["name"] != "podman"]
    subprocess.run(["kill", "-9", *pids], check=True)
    rest, _ = writer.communicate(timeout=300)
    acknowledged += rest.split()
    eventually(lambda: all_running(lab), "everything running again")
    kept = eventually(lambda: kubectl("get", "configmaps", "-o", "name").split(), "the list")
    assert [name for name in acknowledged if name not in kept] == []
    eventually(lambda: lab.kubectl("wait", "nodes", "--all", "--for=condition=Ready", "--timeout=5s"), "nodes Ready")
    answers = finish(traffic, kubectl)
    assert set(answers) == {"one"}, f"{answers.count('FAILED')} of {len(answers)} requests failed"


def test_pods_of_a_killed_node_come_back_elsewhere(kubectl: Callable[..., str], lab: Lab) -> None:
    hurry = [
        {"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
        for why in ("not-ready", "unreachable")
    ]
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    pod = {
        "tolerations": hurry,
        "topologySpreadConstraints": [{**spread, "labelSelector": {"matchLabels": {"app": "web"}}}],
    }
    kubectl("apply", "-f", "-", stdin=deployment("web", web("one"), replicas=2, pod=pod))
    kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    where = "jsonpath={range .items[?(@.status.phase=='Running')]}{.spec.nodeName}{'\\n'}{end}"
    victim = kubectl("get", "pods", "-l", "app=web", "-o", where).split()[0]
    killed = time.monotonic()
    lab.sampan("fault", "kill-node", victim, "--name", lab.name)
    try:

        def ready_elsewhere() -> bool:
            pods = json.loads(kubectl("get", "pods", "-l", "app=web", "-o", "json"))["items"]
            good = [
                item
                for item in pods
                if item["spec"].get("nodeName") != victim
                and any(c["type"] == "Ready" and c["status"] == "True" for c in item["status"].get("conditions", ()))
            ]
            return len(good) == 2

        eventually(ready_elsewhere, "both pods on the nodes that are left", timeout_s=90)
        assert time.monotonic() - killed < 40 + 5 + 15, "the documented time, and a margin for a busy machine"
    finally:
        lab.sampan("fault", "heal", "--name", lab.name)
    eventually(lambda: lab.kubectl("wait", "nodes", "--all", "--for=condition=Ready", "--timeout=5s"), "nodes Ready")
