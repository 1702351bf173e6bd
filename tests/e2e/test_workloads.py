"""Rollouts, self-healing and the workload kinds, with real containers and packets."""

import json
import subprocess
from collections.abc import Callable

from tests.e2e.lab import WAIT_S, WITHIN, Lab, eventually
from tests.e2e.manifests import client, deployment, dump, pod, service, web

BUSYBOX = "sampan.local/busybox:1"
REQUESTS = 400


def ready(kubectl: Callable[..., str], name: str) -> None:
    kubectl("wait", f"pod/{name}", "--for=condition=Ready", WITHIN)


def test_a_rolling_update_drops_no_request_and_can_be_undone(
    kubectl: Callable[..., str], lab: Lab, namespace: str
) -> None:
    kubectl("apply", "-f", "-", stdin=deployment("web", web("one"), replicas=3) + service("web", 80, 8080) + client())
    kubectl("rollout", "status", "deployment/web", WITHIN)
    ready(kubectl, "client")
    eventually(lambda: kubectl("exec", "client", "--", "wget", "-qO-", "http://web/") == "one\n", "version one")
    ask = "timeout 5 wget -qO- http://web/ || echo FAILED; usleep 20000"
    loop = f"i=0; while [ $i -lt {REQUESTS} ]; do {ask}; i=$((i+1)); done"
    requests = subprocess.Popen(
        lab.command("-n", namespace, "exec", "client", "--", "sh", "-c", loop), stdout=subprocess.PIPE, text=True
    )
    kubectl("set", "env", "deployment/web", "VERSION=two")
    kubectl("rollout", "status", "deployment/web", WITHIN)
    answers, _ = requests.communicate(timeout=WAIT_S)
    lines = answers.split()
    assert lines.count("FAILED") == 0, f"{lines.count('FAILED')} of {REQUESTS} requests failed"
    assert len(lines) == REQUESTS
    assert set(lines) == {"one", "two"}, "the loop saw the rollout"
    assert "REVISION" in kubectl("rollout", "history", "deployment/web")
    kubectl("rollout", "undo", "deployment/web")
    kubectl("rollout", "status", "deployment/web", WITHIN)
    eventually(lambda: kubectl("exec", "client", "--", "wget", "-qO-", "http://web/") == "one\n", "version one again")


def test_a_container_that_ends_is_started_again(kubectl: Callable[..., str]) -> None:
    script = "trap 'exit 3' TERM; while :; do usleep 50000; done"
    kubectl("apply", "-f", "-", stdin=pod("mortal", {"image": BUSYBOX, "command": ["sh", "-c", script]}))
    ready(kubectl, "mortal")
    kubectl("exec", "mortal", "--", "kill", "1", check=False)

    def status() -> dict[str, object]:
        found: dict[str, object] = json.loads(kubectl("get", "pod", "mortal", "-o", "json"))["status"][
            "containerStatuses"
        ][0]
        return found

    eventually(lambda: status()["restartCount"] == 1 and status()["ready"], "one restart")
    terminated = status()["lastState"]["terminated"]  # type: ignore[index]
    assert (terminated["exitCode"], terminated["reason"]) == (3, "Error")


def test_a_deleted_pod_is_replaced(kubectl: Callable[..., str]) -> None:
    kubectl("apply", "-f", "-", stdin=deployment("web", web("one"), replicas=2))
    kubectl("rollout", "status", "deployment/web", WITHIN)
    before = kubectl("get", "pods", "-l", "app=web", "-o", "name").split()
    kubectl("delete", before[0], "--wait=false")
    kubectl("rollout", "status", "deployment/web", WITHIN)

    def replaced() -> bool:
        now = kubectl("get", "pods", "-l", "app=web", "-o", "name").split()
        return len(now) == 2 and before[0] not in now and before[1] in now

    eventually(replaced, "one new pod beside the old one")


def test_a_stateful_set_keeps_names_and_order(kubectl: Callable[..., str]) -> None:
    container = {
        "name": "db",
        "image": BUSYBOX,
        "command": ["sh", "-c", "mkdir /tmp/w; hostname > /tmp/w/index.html; exec httpd -f -p 80 -h /tmp/w"],
    }
    template = {
        "metadata": {"labels": {"app": "db"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    spec = {"serviceName": "db", "replicas": 3, "selector": {"matchLabels": {"app": "db"}}, "template": template}
    manifest = dump("apps/v1", "StatefulSet", "db", spec=spec) + service("db", 80, 80, clusterIP="None") + client()
    kubectl("apply", "-f", "-", stdin=manifest)
    kubectl("rollout", "status", "statefulset/db", WITHIN)
    ready(kubectl, "client")
    names = kubectl("get", "pods", "-l", "app=db", "-o", "jsonpath={.items[*].metadata.name}").split()
    assert names == ["db-0", "db-1", "db-2"]
    for name in names:
        eventually(
            lambda name=name: kubectl("exec", "client", "--", "wget", "-qO-", f"http://{name}.db/") == f"{name}\n",
            f"{name} by its own DNS name",
        )
    uid = kubectl("get", "pod", "db-1", "-o", "jsonpath={.metadata.uid}")
    kubectl("delete", "pod", "db-1")
    eventually(lambda: kubectl("get", "pod", "db-1", "-o", "jsonpath={.metadata.uid}") not in ("", uid), "a new db-1")
    kubectl("rollout", "status", "statefulset/db", WITHIN)


def test_a_daemon_set_runs_on_each_node(kubectl: Callable[..., str], lab: Lab) -> None:
    spec = {
        "selector": {"matchLabels": {"app": "agent"}},
        "template": {
            "metadata": {"labels": {"app": "agent"}},
            "spec": {
                "containers": [{"name": "agent", "image": BUSYBOX, "command": ["sleep", "3600"]}],
                "tolerations": [{"operator": "Exists"}],
                "terminationGracePeriodSeconds": 1,
            },
        },
    }
    kubectl("apply", "-f", "-", stdin=dump("apps/v1", "DaemonSet", "agent", spec=spec))
    kubectl("rollout", "status", "daemonset/agent", WITHIN)
    where = kubectl("get", "pods", "-l", "app=agent", "-o", "jsonpath={.items[*].spec.nodeName}").split()
    assert sorted(where) == sorted(lab.nodes())


def test_a_job_runs_to_completion(kubectl: Callable[..., str]) -> None:
    script = "echo result of $JOB_COMPLETION_INDEX"
    template = {
        "spec": {
            "containers": [{"name": "work", "image": BUSYBOX, "command": ["sh", "-c", script]}],
            "restartPolicy": "Never",
        }
    }
    spec = {"completions": 3, "parallelism": 2, "completionMode": "Indexed", "template": template}
    kubectl("apply", "-f", "-", stdin=dump("batch/v1", "Job", "sum", spec=spec))
    kubectl("wait", "job/sum", "--for=condition=Complete", WITHIN)
    assert kubectl("get", "job", "sum", "-o", "jsonpath={.status.succeeded} {.status.completedIndexes}") == "3 0-2"
    lines = kubectl("logs", "-l", "job-name=sum", "--tail=-1").split("\n")
    assert sorted(filter(None, lines)) == [f"result of {index}" for index in range(3)]


def test_init_containers_run_first_and_a_failing_image_is_told(kubectl: Callable[..., str]) -> None:
    mount = [{"name": "out", "mountPath": "/out"}]
    spec = {
        "initContainers": [
            {"name": "prepare", "image": BUSYBOX, "command": ["sh", "-c", "echo ready > /out/f"], "volumeMounts": mount}
        ],
        "volumes": [{"name": "out", "emptyDir": {}}],
    }
    main = {"image": BUSYBOX, "command": ["sh", "-c", "cat /out/f; sleep 3600"], "volumeMounts": mount}
    kubectl("apply", "-f", "-", stdin=pod("main", main, **spec))
    ready(kubectl, "main")
    assert kubectl("logs", "main") == "ready\n"
    kubectl("apply", "-f", "-", stdin=pod("lost", {"image": "sampan.local/nothing:9"}))
    path = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
    eventually(lambda: kubectl("get", "pod", "lost", "-o", path) in ("ErrImagePull", "ImagePullBackOff"), "the reason")
    eventually(lambda: "Failed to pull image" in kubectl("describe", "pod", "lost"), "the event")


def test_a_container_is_given_more_memory_while_it_runs(kubectl: Callable[..., str]) -> None:
    script = (
        "while :; do if head -c 40000000 /dev/zero | tail >/dev/null; then echo fits; else echo no; fi; sleep 1; done"
    )
    little = {"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}}
    kubectl(
        "apply",
        "-f",
        "-",
        stdin=pod("hungry", {"image": BUSYBOX, "command": ["sh", "-c", script], "resources": little}),
    )
    ready(kubectl, "hungry")
    eventually(lambda: "no" in kubectl("logs", "hungry").split(), "more than the limit is refused")
    assert "fits" not in kubectl("logs", "hungry").split()
    more = {"requests": {"memory": "128Mi"}, "limits": {"memory": "128Mi"}}
    patch = json.dumps({"spec": {"containers": [{"name": "hungry", "resources": more}]}})
    kubectl("patch", "pod", "hungry", "--subresource=resize", "-p", patch)
    eventually(lambda: "fits" in kubectl("logs", "hungry").split(), "the same fits into the new limit")
    found = json.loads(kubectl("get", "pod", "hungry", "-o", "json"))["status"]
    container = found["containerStatuses"][0]
    assert (container["restartCount"], container["resources"]["limits"]) == (0, more["limits"])
    assert not [each for each in found["conditions"] if each["type"].startswith("PodResize")]
