"""What people type: each command of the real kubectl, in two versions, against a lab, and what it must say."""

import os
import re
import subprocess
from collections.abc import Callable

import pytest
import yaml

from tests.e2e import newest_kubectl
from tests.e2e.lab import WITHIN, Lab, eventually
from tests.e2e.manifests import client, deployment, service, web

CREATORS = {
    "job": ("job", "once", "--image=sampan.local/busybox:1", "--", "true"),
    "cronjob": ("cronjob", "nightly", "--image=sampan.local/busybox:1", "--schedule=0 3 * * *", "--", "true"),
    "configmap": ("configmap", "settings", "--from-literal=a=b"),
    "secret": ("secret", "generic", "keys", "--from-literal=a=b"),
    "service": ("service", "clusterip", "plain", "--tcp=80:8080"),
    "serviceaccount": ("serviceaccount", "robot"),
    "role": ("role", "reader", "--verb=get,list", "--resource=pods"),
    "rolebinding": ("rolebinding", "readers", "--role=reader", "--user=jane"),
    "quota": ("quota", "small", "--hard=pods=10"),
    "pdb": ("pdb", "careful", "--selector=app=web", "--min-available=1"),
    "ingress": ("ingress", "front", "--rule=example.test/*=web:80"),
}


@pytest.fixture(autouse=True, params=["installed", "newest"])
def program(request: pytest.FixtureRequest, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "newest":
        monkeypatch.setattr(lab, "kubectl_program", str(newest_kubectl.program()))


def test_which_versions_these_are(lab: Lab, request: pytest.FixtureRequest) -> None:
    told = yaml.safe_load(lab.kubectl("version", "-o", "yaml"))
    assert told["serverVersion"]["minor"] == "36"
    if "newest" in request.node.name:
        assert told["clientVersion"]["minor"] == "36"


@pytest.mark.parametrize("what", CREATORS)
def test_create(kubectl: Callable[..., str], what: str) -> None:
    assert "created" in kubectl("create", *CREATORS[what])
    kind, *rest = CREATORS[what]
    assert "created (dry run)" in kubectl("create", kind, "--dry-run=client", *rest)
    assert "created (server dry run)" in kubectl("create", kind, "--dry-run=server", "--namespace=kube-public", *rest)
    assert "already exists" in kubectl("create", *CREATORS[what], check=False)


def test_the_life_of_a_deployment(kubectl: Callable[..., str], lab: Lab, namespace: str) -> None:
    manifest = deployment("web", web("one"), replicas=2) + service("web", 80, 8080)
    assert "deployment.apps/web created" in kubectl("apply", "-f", "-", stdin=manifest)
    assert "deployment.apps/web unchanged" in kubectl("apply", "-f", "-", stdin=manifest)
    kubectl("rollout", "status", "deployment/web", WITHIN)

    wide = kubectl("get", "deployment", "web", "-o", "wide").splitlines()
    assert wide[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    assert wide[1].split()[1] == "2/2"
    assert yaml.safe_load(kubectl("get", "deployment", "web", "-o", "yaml"))["kind"] == "Deployment"
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={.status.readyReplicas}") == "2"
    described = kubectl("describe", "deployment", "web")
    assert "2 desired | 2 updated | 2 total | 2 available | 0 unavailable" in described
    assert "ScalingReplicaSet" in described

    assert "labeled" in kubectl("label", "deployment", "web", "tier=front")
    assert "annotated" in kubectl("annotate", "deployment", "web", "note=seen")
    assert "configured" in kubectl("apply", "-f", "-", stdin=manifest.replace("replicas: 2", "replicas: 3"))
    kept = kubectl("get", "deployment", "web", "-o", "jsonpath={.metadata.labels.tier} {.spec.replicas}")
    assert kept == "front 3", "apply keeps what others have set"
    difference = subprocess.run(
        lab.command("-n", namespace, "diff", "-f", "-"), input=manifest, capture_output=True, text=True, check=False
    )
    assert difference.returncode == 1, difference.stderr
    assert "-  replicas: 3" in difference.stdout
    assert "+  replicas: 2" in difference.stdout

    kubectl("scale", "deployment/web", "--replicas=2")
    kubectl("set", "image", "deployment/web", "web=busybox:1")
    kubectl("rollout", "status", "deployment/web", WITHIN)
    kubectl("rollout", "restart", "deployment/web")
    kubectl("rollout", "status", "deployment/web", WITHIN)
    assert re.findall(r"^\d+", kubectl("rollout", "history", "deployment/web"), re.M) == ["1", "2", "3"]
    kubectl("rollout", "undo", "deployment/web", "--to-revision=1")
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    assert kubectl("get", "deployment", "web", "-o", image) == "sampan.local/busybox:1"
    kubectl("rollout", "pause", "deployment/web")
    kubectl("rollout", "resume", "deployment/web")

    editor = {**os.environ, "KUBE_EDITOR": "sed -i s/tier:.front/tier:\\ back/"}
    command = lab.command("-n", namespace, "edit", "deployment", "web")
    edited = subprocess.run(command, env=editor, capture_output=True, text=True, check=True)
    assert "edited" in edited.stdout
    assert kubectl("get", "deployment", "web", "-o", "jsonpath={.metadata.labels.tier}") == "back"

    kubectl("wait", "deployment/web", "--for=condition=Available", WITHIN)
    kubectl("wait", "deployment/web", "--for=jsonpath={.status.readyReplicas}=2", WITHIN)
    kubectl("delete", "deployment", "web", "--cascade=foreground", WITHIN)
    assert kubectl("get", "pods,replicasets", "-o", "name") == ""


def test_server_side_apply_names_the_other_manager(kubectl: Callable[..., str]) -> None:
    manifest = deployment("web", {"image": "sampan.local/pause:1"}, replicas=1)
    assert "serverside-applied" in kubectl("apply", "--server-side", "-f", "-", stdin=manifest)
    kubectl("scale", "deployment/web", "--replicas=2")
    refused = kubectl("apply", "--server-side", "-f", "-", stdin=manifest, check=False)
    assert 'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas' in refused
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
    assert kubectl("get", "deployment", "web", "-o", "jsonpath={.spec.replicas}") == "1"


def test_patches_and_replace(kubectl: Callable[..., str]) -> None:
    kubectl("create", "configmap", "c", "--from-literal=a=1", "--from-literal=b=2")
    kubectl("patch", "configmap", "c", "--type=merge", "-p", '{"data": {"a": null}}')
    kubectl("patch", "configmap", "c", "--type=json", "-p", '[{"op": "add", "path": "/data/c", "value": "3"}]')
    kubectl("patch", "configmap", "c", "-p", '{"data": {"d": "4"}}')
    assert kubectl("get", "configmap", "c", "-o", "jsonpath={.data}") == '{"b":"2","c":"3","d":"4"}'
    text = kubectl("get", "configmap", "c", "-o", "yaml").replace('"4"', '"5"')
    assert "replaced" in kubectl("replace", "-f", "-", stdin=text)
    assert "the object has been modified" in kubectl("replace", "-f", "-", stdin=text, check=False)


def test_run_attach_and_watch(kubectl: Callable[..., str], lab: Lab, namespace: str) -> None:
    said = kubectl("run", "c", "--image=busybox:1", "--restart=Never", "--rm", "-i", "--", "echo", "hi")
    assert "hi\n" in said
    watch = subprocess.Popen(
        lab.command("-n", namespace, "get", "pods", "-w", "--output-watch-events"), stdout=subprocess.PIPE, text=True
    )
    try:
        assert watch.stdout is not None
        kubectl("apply", "-f", "-", stdin=client())
        seen = [watch.stdout.readline() for _ in range(3)]
        assert any("client" in line and line.startswith(("ADDED", "MODIFIED")) for line in seen), seen
    finally:
        watch.kill()
        watch.wait()
    kubectl("wait", "pod/client", "--for=condition=Ready", WITHIN)
    kubectl("delete", "pod", "client", "--grace-period=0", "--force")
    kubectl("wait", "pod/client", "--for=delete", WITHIN)


def test_the_output_of_a_container_that_ends_at_once(kubectl: Callable[..., str]) -> None:
    script = "echo hi; exit 3"
    said = kubectl(
        "run", "c", "--image=busybox:1", "--restart=Never", "--rm", "-i", "--", "sh", "-c", script, check=False
    )
    assert "hi\n" in said
    assert 'pod "c" deleted' in said
    assert "unknown exit code" not in said


def test_what_is_set_exposed_debugged_and_orphaned(kubectl: Callable[..., str]) -> None:
    kubectl("create", "deployment", "w", "--image=busybox:1", "--replicas=0", "--", "sleep", "3600")
    assert "env updated" in kubectl("set", "env", "deployment/w", "A=b")
    assert "scaled" in kubectl("scale", "deployment/w", "--replicas=1")
    assert "exposed" in kubectl("expose", "deployment", "w", "--port=80")
    assert kubectl("create", "token", "default").count(".") == 2
    kubectl("rollout", "status", "deployment/w", WITHIN)
    only = kubectl("get", "pods", "-l", "app=w", "-o", "name").strip()
    assert kubectl("exec", only, "--", "sh", "-c", "echo $A") == "b\n"
    kubectl("debug", only, "--image=busybox:1", "--container=look", "--profile=general", "--", "sleep", "60")
    running = "jsonpath={.status.ephemeralContainerStatuses[0].state.running.startedAt}"
    eventually(lambda: kubectl("get", only, "-o", running), "the debug container runs")
    assert "Endpoints:" in kubectl("describe", "service", "w")
    assert "ScalingReplicaSet" in kubectl("get", "events")
    kubectl("delete", "deployment", "w", "--cascade=orphan")
    assert "replicaset.apps/w-" in kubectl("get", "replicasets", "-o", "name")


def test_nodes_can_be_emptied(kubectl: Callable[..., str], lab: Lab) -> None:
    node = next(name for name in lab.nodes() if "worker" in name)
    kubectl("apply", "-f", "-", stdin=deployment("web", {"image": "sampan.local/pause:1"}, replicas=4))
    kubectl("rollout", "status", "deployment/web", WITHIN)
    try:
        assert "drained" in lab.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        on_node = ("get", "pods", "--field-selector", f"spec.nodeName={node}", "-o", "name")
        eventually(lambda: kubectl(*on_node) == "", "no pod left on the node")
        assert "SchedulingDisabled" in lab.kubectl("get", "node", node)
    finally:
        lab.kubectl("uncordon", node)
    assert "tainted" in lab.kubectl("taint", "node", node, "a=b:NoSchedule")
    assert "untainted" in lab.kubectl("taint", "node", node, "a-")
    assert "Allocated resources" in lab.kubectl("describe", "node", node)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("explain", "deployment.spec.strategy.rollingUpdate"), "maxSurge"),
        (("explain", "pods", "--recursive"), "terminationGracePeriodSeconds"),
        (("api-resources",), "deployments"),
        (("api-versions",), "apps/v1"),
        (("auth", "can-i", "create", "pods"), "yes"),
        (("auth", "can-i", "get", "secrets", "--as=jane"), "no"),
        (("auth", "whoami"), "kubernetes-admin"),
        (("auth", "can-i", "--list"), "Resources"),
        (("cluster-info",), "Kubernetes control plane"),
        (("version",), "Server Version: v1.36"),
        (("get", "--raw", "/readyz?verbose"), "readyz check passed"),
        (("get", "all", "-A"), "service/kube-dns"),
        (("get", "nodes", "-o", "custom-columns=N:.metadata.name"), "worker-1"),
        (("get", "pods", "nobody"), 'Error from server (NotFound): pods "nobody" not found'),
        (("get", "gadgets"), 'the server doesn\'t have a resource type "gadgets"'),
        (("logs", "nobody"), 'pods "nobody" not found'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_says(lab: Lab, command: tuple[str, ...], said: str) -> None:
    assert said in lab.kubectl(*command, check=False)
