"""The unmodified kubectl against the whole server: TLS, client certificate, SQLite, access chain."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.whole_server import WholeServer

LIMIT_S = 30


@dataclass
class Kubectl:
    """`await kubectl("get", "pods")` is what it printed; `fails` is what it complained about."""

    kubeconfig: Path

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        command = ("kubectl", "--kubeconfig", str(self.kubeconfig), *arguments)
        return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)

    async def run(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        process = await self.start(*arguments)
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate(stdin.encode())
        return process.returncode or 0, out.decode(), err.decode()

    async def __call__(self, *arguments: str, stdin: str = "") -> str:
        code, out, err = await self.run(*arguments, stdin=stdin)
        assert code == 0, f"{arguments}: {err}"
        return out

    async def fails(self, *arguments: str, stdin: str = "") -> str:
        code, out, err = await self.run(*arguments, stdin=stdin)
        assert code != 0, f"{arguments}: {out}"
        return err


@pytest.fixture
def kubectl(server: WholeServer) -> Kubectl:
    return Kubectl(server.kubeconfig("admin"))


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "nginx:1", ports: [{containerPort: 80}]}
"""


LIST = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: one}, data: {x: "1"}}
- {apiVersion: v1, kind: Service, metadata: {name: two}, spec: {ports: [{port: 80}], selector: {app: web}}}
"""


async def test_a_list_is_validated_by_the_older_openapi_document(kubectl: Kubectl) -> None:
    """Version 1.32 does not find the kind List in version 3, and asks for version 2 in protobuf alone."""
    assert await kubectl("apply", "-f", "-", stdin=LIST) == "configmap/one created\nservice/two created\n"
    wrong = LIST.replace("port: 80", "prot: 80")
    why = await kubectl.fails("create", "-f", "-", stdin=wrong)
    assert 'unknown field "prot" in io.k8s.api.core.v1.ServicePort' in why
    assert await kubectl("apply", "-f", "-", stdin=LIST) == "configmap/one unchanged\nservice/two unchanged\n"


async def test_apply_both_ways_and_all_patches(kubectl: Kubectl) -> None:
    assert await kubectl("apply", "-f", "-", stdin=DEPLOYMENT) == "deployment.apps/web created\n"
    assert await kubectl("apply", "-f", "-", stdin=DEPLOYMENT) == "deployment.apps/web unchanged\n"
    changed = DEPLOYMENT.replace("replicas: 2", "replicas: 3")
    assert await kubectl("apply", "-f", "-", stdin=changed) == "deployment.apps/web configured\n"
    code, difference, _ = await kubectl.run("diff", "-f", "-", stdin=DEPLOYMENT)
    assert (code, "replicas: 2" in difference) == (1, True)
    assert "serverside-applied" in await kubectl("apply", "--server-side", "-f", "-", stdin=changed)
    for kind, patch in (
        ("strategic", '{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"nginx:2"}]}}}}'),
        ("merge", '{"spec":{"replicas":5}}'),
        ("json", '[{"op":"add","path":"/metadata/labels/tier","value":"front"}]'),
    ):
        await kubectl("patch", "deployment", "web", "--type", kind, "-p", patch)
    found = json.loads(await kubectl("get", "deployment", "web", "-o", "json", "--show-managed-fields"))
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["ports"][0]["containerPort"]) == ("nginx:2", 80)
    assert (found["spec"]["replicas"], found["metadata"]["labels"]["tier"]) == (5, "front")
    managers = {entry["manager"] for entry in found["metadata"]["managedFields"]}
    assert {"kubectl", "kubectl-patch"} <= managers
    conflict = await kubectl.fails("apply", "--server-side", "-f", "-", stdin=DEPLOYMENT)
    assert 'Apply failed with 2 conflicts: conflicts with "kubectl-patch" using apps/v1' in conflict


async def test_what_one_does_with_a_deployment(kubectl: Kubectl) -> None:
    await kubectl("create", "deployment", "web", "--image=nginx:1", "--replicas=2")  # protobuf, from a typed client
    await kubectl("scale", "deployment", "web", "--replicas=4")
    await kubectl("set", "image", "deployment/web", "nginx=nginx:2")
    await kubectl("label", "deployment", "web", "tier=front")
    await kubectl("annotate", "deployment", "web", "note=x")
    table = await kubectl("get", "deployment", "web", "-o", "wide")
    assert table.splitlines()[0].split() == [
        "NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR",
    ]  # fmt: skip
    assert "0/4" in table
    assert "nginx:2" in await kubectl("describe", "deployment", "web")
    assert await kubectl("get", "deployments", "-l", "tier=front", "-o", "name") == "deployment.apps/web\n"
    assert "web" in await kubectl("get", "all")
    await kubectl("rollout", "restart", "deployment/web")
    await kubectl("delete", "deployment", "web")
    assert "not found" in await kubectl.fails("get", "deployment", "web")


async def test_every_way_to_create_from_flags(kubectl: Kubectl) -> None:
    for arguments in (
        ("configmap", "a", "--from-literal=x=1"),
        ("secret", "generic", "a", "--from-literal=x=1"),
        ("serviceaccount", "a"),
        ("service", "clusterip", "a", "--tcp=80:80"),
        ("job", "a", "--image=busybox"),
        ("cronjob", "a", "--image=busybox", "--schedule=* * * * *"),
        ("role", "a", "--verb=get", "--resource=pods"),
        ("rolebinding", "a", "--role=a", "--serviceaccount=default:a"),
        ("clusterrole", "a", "--verb=get", "--resource=pods"),
        ("clusterrolebinding", "a", "--clusterrole=a", "--group=b"),
        ("quota", "a", "--hard=configmaps=10"),
        ("poddisruptionbudget", "a", "--selector=app=a", "--min-available=1"),
        ("priorityclass", "a", "--value=10"),
        ("ingress", "a", "--rule=host/path=a:80"),
        ("namespace", "a"),
    ):
        assert "created" in await kubectl("create", *arguments)
    found = json.loads(await kubectl("get", "job", "a", "-o", "json"))
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "busybox"
    found = json.loads(await kubectl("get", "ingress", "a", "-o", "json"))
    assert found["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"] == {"number": 80}
    token = await kubectl("create", "token", "a")
    assert token.count(".") == 2


async def test_discovery_explain_and_access(kubectl: Kubectl, server: WholeServer) -> None:
    listed = await kubectl("api-resources")
    for row in server.api.core.resources:
        if "list" in row.verbs:
            assert row.plural in listed
    explained = await kubectl("explain", "pod.spec.containers.ports.containerPort")
    assert "KIND:       Pod" in explained
    assert "FIELD: containerPort <integer>" in explained
    assert await kubectl("auth", "can-i", "create", "pods") == "yes\n"
    assert "Server Version: v1.36.0" in await kubectl("version")
    assert "readyz check passed" in await kubectl("get", "--raw", "/readyz?verbose")
    assert "apiserver_request_total" in await kubectl("get", "--raw", "/metrics")


async def test_a_watch_prints_changes_as_they_happen(kubectl: Kubectl) -> None:
    process = await kubectl.start("get", "configmaps", "-w", "--no-headers", "-o", "name")
    assert process.stdout is not None
    await kubectl("create", "configmap", "first")
    async with asyncio.timeout(LIMIT_S):
        assert await process.stdout.readline() == b"configmap/first\n"
        await kubectl("create", "configmap", "second")
        assert await process.stdout.readline() == b"configmap/second\n"
    process.terminate()
    await process.wait()


async def test_wait_sees_a_deletion(kubectl: Kubectl) -> None:
    await kubectl("create", "configmap", "a")
    waiting = asyncio.create_task(kubectl("wait", "--for=delete", "configmap/a", "--timeout=20s"))
    await kubectl("delete", "configmap", "a")
    assert await waiting in ("configmap/a condition met\n", "")  # it says nothing of what was gone before it looked


def manifest(kind: str, version: str, spec: str) -> str:
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n"


TEMPLATE = "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}"
BAD = [
    pytest.param(
        manifest("Deployment", "apps/v1", f"{{foo: 1, selector: {{matchLabels: {{a: b}}}}, {TEMPLATE}}}"),
        'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.foo"',
        id="unknown-field",
    ),
    pytest.param(
        manifest("Deployment", "apps/v1", f"{{replicas: two, selector: {{matchLabels: {{a: b}}}}, {TEMPLATE}}}"),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        id="wrong-type",
    ),
    pytest.param(
        manifest("Pod", "v1", "{containers: [{name: c, image: i, resources: {limits: {cpu: x}}}]}"),
        "quantities must match the regular expression",
        id="bad-quantity",
    ),
    pytest.param(
        manifest("Deployment", "apps/v1", f"{{{TEMPLATE}}}"), "spec.selector: Required value", id="missing-field"
    ),
    pytest.param(
        manifest("Pod", "v1", "{containers: [{name: c, image: i}, {name: c, image: i}]}"),
        'spec.containers[1].name: Duplicate value: "c"',
        id="duplicate",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD)
async def test_bad_input_is_named_as_kube_apiserver_names_it(kubectl: Kubectl, text: str, message: str) -> None:
    assert message in await kubectl.fails("create", "-f", "-", stdin=text)


async def test_an_immutable_field(kubectl: Kubectl) -> None:
    await kubectl("create", "service", "clusterip", "a", "--tcp=80:80")
    patch = '{"spec":{"clusterIP":"10.96.77.77","clusterIPs":["10.96.77.77"]}}'
    assert "may not change once set" in await kubectl.fails("patch", "service", "a", "-p", patch)
