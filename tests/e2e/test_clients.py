"""Unmodified clients: the `kubernetes` package, kr8s, and an operator written with kopf."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import kr8s
import kubernetes
import kubernetes.stream
import yaml

from tests.e2e.lab import WAIT_S, Lab, eventually
from tests.e2e.manifests import ECHO, pod

OPERATOR = textwrap.dedent(
    """
    import kopf

    @kopf.on.startup()
    def configure(settings, **_):
        settings.posting.enabled = False

    @kopf.on.create("v1", "configmaps", labels={"greet": kopf.PRESENT})
    @kopf.on.update("v1", "configmaps", labels={"greet": kopf.PRESENT}, field="data")
    def greet(body, patch, **_):
        patch.metadata.annotations["greeting"] = "hello " + body["data"]["name"]
    """
)


def test_the_kubernetes_client(lab: Lab, namespace: str) -> None:
    api_client = kubernetes.config.new_client_from_config(str(lab.kubeconfig))
    core, apps = kubernetes.client.CoreV1Api(api_client), kubernetes.client.AppsV1Api(api_client)
    labels = {"app": "py"}
    body = kubernetes.client.V1Deployment(
        metadata=kubernetes.client.V1ObjectMeta(name="py"),
        spec=kubernetes.client.V1DeploymentSpec(
            replicas=2,
            selector=kubernetes.client.V1LabelSelector(match_labels=labels),
            template=kubernetes.client.V1PodTemplateSpec(
                metadata=kubernetes.client.V1ObjectMeta(labels=labels),
                spec=kubernetes.client.V1PodSpec(
                    containers=[
                        kubernetes.client.V1Container(
                            name="c", image="sampan.local/busybox:1", command=["sleep", "3600"]
                        )
                    ]
                ),
            ),
        ),
    )
    apps.create_namespaced_deployment(namespace, body)
    running: set[str] = set()
    watch = kubernetes.watch.Watch()
    for event in watch.stream(
        core.list_namespaced_pod, namespace, label_selector="app=py", timeout_seconds=int(WAIT_S)
    ):
        if event["object"].status.phase == "Running":
            running.add(event["object"].metadata.name)
        if len(running) == 2:
            watch.stop()
    assert len(running) == 2
    said = kubernetes.stream.stream(
        core.connect_get_namespaced_pod_exec,
        sorted(running)[0],
        namespace,
        command=["echo", "hi"],
        stdin=False,
        stdout=True,
        stderr=True,
        tty=False,
    )
    assert said == "hi\n"
    apps.patch_namespaced_deployment_scale("py", namespace, {"spec": {"replicas": 1}})
    eventually(lambda: len(core.list_namespaced_pod(namespace, label_selector="app=py").items) == 1, "one pod")
    api_client.close()


def test_kr8s(lab: Lab, namespace: str) -> None:
    api = kr8s.api(kubeconfig=str(lab.kubeconfig), namespace=namespace)
    made = kr8s.objects.Pod(next(yaml.safe_load_all(pod("echo", ECHO))), namespace=namespace, api=api)
    made.create()
    made.wait("condition=Ready", timeout=WAIT_S)
    assert [found.name for found in api.get("pods", namespace=namespace)] == ["echo"]
    made.label({"seen": "yes"})
    assert [found.name for found in api.get("pods", namespace=namespace, label_selector="seen=yes")] == ["echo"]
    made.delete()
    eventually(lambda: not list(api.get("pods", namespace=namespace)), "the pod gone")


def test_a_kopf_operator(lab: Lab, namespace: str, kubectl: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "greeter.py").write_text(OPERATOR)
    environment = {"KUBECONFIG": str(lab.kubeconfig), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "kopf", "run", "--namespace", namespace, "--standalone", "greeter.py"]
    with (tmp_path / "log").open("w") as log:
        operator = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        kubectl("create", "configmap", "crew", "--from-literal=name=crew")
        kubectl("label", "configmap", "crew", "greet=yes")
        path = "jsonpath={.metadata.annotations.greeting}"
        eventually(lambda: kubectl("get", "configmap", "crew", "-o", path) == "hello crew", "the operator's annotation")
        kubectl("patch", "configmap", "crew", "-p", '{"data": {"name": "captain"}}')
        eventually(lambda: kubectl("get", "configmap", "crew", "-o", path) == "hello captain", "the change")
    finally:
        operator.terminate()
        operator.wait(30)
