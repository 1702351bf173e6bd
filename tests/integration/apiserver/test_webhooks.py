"""Admission webhooks against the whole server: a real HTTPS server of the test's is asked."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from infra import pki
from infra.topology import Topology
from orchestrator.api.resources import (
    CONFIGMAPS,
    MUTATINGWEBHOOKCONFIGURATIONS,
    VALIDATINGWEBHOOKCONFIGURATIONS,
    Resource,
)
from orchestrator.api.status import ApiError, BadRequest, Forbidden, InternalError, Invalid
from orchestrator.api.wire import Request
from tests.whole_server import WholeServer, free_port, whole_server

Json = dict[str, Any]
Answer = Callable[[Json], Json]


class Hook:
    """A webhook: `answers` by path; `seen` has the requests in the order in which they came."""

    def __init__(self, url: str, bundle: str) -> None:
        self.url, self.bundle = url, bundle
        self.answers: dict[str, Answer] = {}
        self.seen: list[tuple[str, Json]] = []

    async def serve(self, request: web.Request) -> web.Response:
        review = await request.json()
        self.seen.append((request.path, review["request"]))
        response = {"uid": review["request"]["uid"], "allowed": True, **self.answers[request.path](review["request"])}
        return web.json_response({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response})

    def configuration(self, kind: str, path: str, **more: Any) -> Json:
        hook = {
            "name": f"{path}.hooks.example.com",
            "clientConfig": {"url": f"{self.url}/{path}", "caBundle": self.bundle},
            "rules": [
                {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]},
            ],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            # The server's own controllers write in other namespaces.
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
            **more,
        }
        return {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": path},
            "webhooks": [hook],
        }  # fmt: skip


@asynccontextmanager
async def hook_server(keys: Path, make: type[Hook] = Hook) -> AsyncIterator[Hook]:
    """Shows the API server's own certificate, which is for 127.0.0.1 too."""
    port = free_port()
    hook = make(f"https://127.0.0.1:{port}", base64.b64encode((keys / "ca.crt").read_bytes()).decode())
    app = web.Application()
    app.router.add_post("/{path:.*}", hook.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(str(keys / "apiserver.crt"), str(keys / "apiserver.key"))
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    try:
        yield hook
    finally:
        await runner.cleanup()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WholeServer]:
    async with whole_server(tmp_path) as made:
        yield made


@pytest.fixture
async def hook(tmp_path: Path) -> AsyncIterator[Hook]:
    pki.ensure(tmp_path / "pki", Topology(name="test", workers=0))
    async with hook_server(tmp_path / "pki") as made:
        yield made


def configmap(name: str = "one", **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def patch(*operations: Json) -> Json:
    return {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}


def adding(key: str, value: str) -> Answer:
    return lambda request: patch({"op": "add", "path": f"/data/{key}", "value": value})


def denying(message: str, **status: Any) -> Answer:
    return lambda request: {"allowed": False, "status": {"message": message, **status}}


async def mutate_with(server: WholeServer, hook: Hook, path: str, answer: Answer, **more: Any) -> None:
    hook.answers[f"/{path}"] = answer
    body = hook.configuration("MutatingWebhookConfiguration", path, **more)
    await server.admin.create(MUTATINGWEBHOOKCONFIGURATIONS, body)


async def validate_with(server: WholeServer, hook: Hook, path: str, answer: Answer, **more: Any) -> None:
    hook.answers[f"/{path}"] = answer
    body = hook.configuration("ValidatingWebhookConfiguration", path, **more)
    await server.admin.create(VALIDATINGWEBHOOKCONFIGURATIONS, body)


async def test_a_webhook_changes_what_is_written(server: WholeServer, hook: Hook) -> None:
    await mutate_with(server, hook, "adds", adding("added", "yes"))
    made = await server.admin.create(CONFIGMAPS, configmap(mine="1"))
    assert made["data"] == {"mine": "1", "added": "yes"}
    _, request = hook.seen[-1]
    assert request["operation"] == "CREATE"
    assert request["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert request["userInfo"]["username"] == "system:apiserver"
    assert (request["name"], request["namespace"], request["oldObject"], request["dryRun"]) == (
        "one", "default", None, False,
    )  # fmt: skip
    assert request["options"] == {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}
    made["data"] = {"changed": "1"}
    assert (await server.admin.update(CONFIGMAPS, made))["data"] == {"changed": "1", "added": "yes"}
    assert hook.seen[-1][1]["oldObject"]["data"] == {"mine": "1", "added": "yes"}


async def test_a_patch_of_what_has_no_object_fails(server: WholeServer, hook: Hook) -> None:
    await server.admin.create(CONFIGMAPS, configmap())
    await mutate_with(server, hook, "adds", adding("added", "yes"))
    with pytest.raises(InternalError) as failed:
        await server.admin.delete(CONFIGMAPS, "one", "default")
    assert "attempted to modify the object, which is not supported for this operation" in failed.value.message


async def test_a_webhook_refuses(server: WholeServer, hook: Hook) -> None:
    await validate_with(server, hook, "denies", denying("not today", code=403, reason="Forbidden"))
    with pytest.raises(Forbidden) as refused:
        await server.admin.create(CONFIGMAPS, configmap())
    assert refused.value.message == 'admission webhook "denies.hooks.example.com" denied the request: not today'
    hook.answers["/denies"] = lambda request: {"allowed": False}
    with pytest.raises(BadRequest, match="denied the request without explanation"):
        await server.admin.create(CONFIGMAPS, configmap())
    labels = 'name="denies.hooks.example.com",operation="CREATE",rejected="true",type="validating"'
    counted = f"apiserver_admission_webhook_admission_duration_seconds_count{{{labels}}} 2\n"
    assert counted in server.api.metrics.text().decode()


async def test_other_namespaces_and_resources_are_not_asked_about(server: WholeServer, hook: Hook) -> None:
    await validate_with(server, hook, "denies", denying("no"))
    await server.admin.create(CONFIGMAPS, {**configmap(), "metadata": {"name": "x", "namespace": "kube-system"}})
    assert hook.seen == []


async def test_objects_are_selected_by_label(server: WholeServer, hook: Hook) -> None:
    await validate_with(server, hook, "denies", denying("no"), objectSelector={"matchLabels": {"guard": "on"}})
    made = await server.admin.create(CONFIGMAPS, configmap())
    labelled = {**made, "metadata": {**made["metadata"], "labels": {"guard": "on"}}}
    with pytest.raises(BadRequest):
        await server.admin.update(CONFIGMAPS, labelled)


async def test_webhooks_are_asked_in_order_and_again(server: WholeServer, hook: Hook) -> None:
    def count(request: Json) -> Json:
        data = request["object"].get("data") or {}
        return patch({"op": "add", "path": "/data/count", "value": str(len([k for k in data if k != "count"]))})

    await mutate_with(server, hook, "a-counts", count, reinvocationPolicy="IfNeeded")
    await mutate_with(server, hook, "b-adds", adding("added", "yes"))
    made = await server.admin.create(CONFIGMAPS, configmap(mine="1"))
    assert [path for path, _ in hook.seen] == ["/a-counts", "/b-adds", "/a-counts"]
    assert made["data"] == {"mine": "1", "added": "yes", "count": "2"}


async def test_a_webhook_that_cannot_be_asked(server: WholeServer, hook: Hook) -> None:
    nowhere = {"clientConfig": {"url": f"https://127.0.0.1:{free_port()}/x", "caBundle": hook.bundle}}
    await validate_with(server, hook, "open", denying("no"), **nowhere, failurePolicy="Ignore")
    await server.admin.create(CONFIGMAPS, configmap())
    await validate_with(server, hook, "closed", denying("no"), **nowhere)
    with pytest.raises(InternalError) as failed:
        await server.admin.create(CONFIGMAPS, configmap("two"))
    start = 'Internal error occurred: failed calling webhook "closed.hooks.example.com": failed to call webhook: Post'
    assert failed.value.message.startswith(start)


async def test_a_certificate_of_another_authority_is_not_believed(
    server: WholeServer, hook: Hook, tmp_path: Path
) -> None:
    pki.ensure(tmp_path / "others", Topology(name="test", workers=0))
    bundle = base64.b64encode((tmp_path / "others/ca.crt").read_bytes()).decode()
    config = {"clientConfig": {"url": f"{hook.url}/x", "caBundle": bundle}}
    await validate_with(server, hook, "x", denying("no"), **config)
    with pytest.raises(InternalError, match="x509"):
        await server.admin.create(CONFIGMAPS, configmap())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"uid": "other"}, 'expected response.uid="'),
        ({"patch": "W10="}, "validating webhook may not return response.patch"),
    ],
)
async def test_answers_that_are_none(server: WholeServer, hook: Hook, answer: Json, why: str) -> None:
    await validate_with(server, hook, "odd", lambda request: answer)
    with pytest.raises(InternalError) as failed:
        await server.admin.create(CONFIGMAPS, configmap())
    assert f"received invalid webhook response: {why}" in failed.value.message


async def test_warnings_reach_the_client(server: WholeServer, hook: Hook) -> None:
    await validate_with(server, hook, "warns", lambda request: {"warnings": ["careful"]})
    answer = await server.admin.request(
        Request(
            "POST", "/api/v1/namespaces/default/configmaps", headers={"content-type": "application/json"},
            body=json.dumps(configmap()).encode(),
        )
    )  # fmt: skip
    assert answer.headers["warning"] == '299 - "careful"'


async def test_wrong_configurations_are_refused(server: WholeServer, hook: Hook) -> None:
    bad = hook.configuration("ValidatingWebhookConfiguration", "bad", sideEffects="Some", timeoutSeconds=31)
    bad["webhooks"][0]["rules"][0]["operations"] = ["*", "CREATE"]
    bad["webhooks"][0]["clientConfig"] = {"url": "http://x/y"}
    with pytest.raises(Invalid) as refused:
        await server.admin.create(VALIDATINGWEBHOOKCONFIGURATIONS, bad)
    fields = [cause.field for cause in refused.value.causes]
    assert fields == [
        "webhooks[0].rules[0].operations", "webhooks[0].sideEffects", "webhooks[0].timeoutSeconds",
        "webhooks[0].clientConfig.url",
    ]  # fmt: skip


async def test_configurations_of_admission_are_exempt(server: WholeServer, hook: Hook) -> None:
    rule = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
    await validate_with(server, hook, "all", denying("no"), rules=[rule], namespaceSelector={})
    with pytest.raises(ApiError):
        await server.admin.create(CONFIGMAPS, configmap())
    await server.admin.delete(VALIDATINGWEBHOOKCONFIGURATIONS, "all")
    await server.admin.create(CONFIGMAPS, configmap())


@pytest.mark.parametrize(
    "resource", [MUTATINGWEBHOOKCONFIGURATIONS, VALIDATINGWEBHOOKCONFIGURATIONS], ids=["mutating", "validating"]
)
async def test_a_match_condition_must_compile(server: WholeServer, hook: Hook, resource: Resource) -> None:
    bad = [{"name": "bad", "expression": "... [] bad expression"}]
    body = hook.configuration(resource.kind, "one", matchConditions=bad)
    with pytest.raises(Invalid, match="compilation failed") as refused:
        await server.admin.create(resource, body)
    assert refused.value.causes[0].field == "webhooks[0].matchConditions[0].expression"
    text = [{"name": "text", "expression": "'yes'"}]
    with pytest.raises(Invalid, match="must evaluate to bool but got string"):
        await server.admin.create(resource, hook.configuration(resource.kind, "one", matchConditions=text))
