"""Inputs that once were not foreseen, each with the answer it gets: never an internal error."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from orchestrator.api.nesting import DEPTH_MAX
from tests.apiserver_fixture import serving
from tests.unit.apiserver.rest import CONFIGMAPS, call, configmap, send

APPLY = {"content_type": "application/apply-patch+yaml"}
YAML = {"content_type": "application/yaml"}
PROTOBUF = {"content_type": "application/vnd.kubernetes.protobuf"}
JSON_PATCH = {"content_type": "application/json-patch+json"}
MERGE = {"content_type": "application/merge-patch+json"}
STRATEGIC = {"content_type": "application/strategic-merge-patch+json"}
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
SCALERS = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
DEEP = b'{"a":' * (DEPTH_MAX + 1) + b"{}" + b"}" * (DEPTH_MAX + 1)


def protobuf(api_version: bytes, kind: bytes, body: bytes) -> bytes:
    """The envelope of a kind; its parts are shorter than 128 bytes."""
    types = b"\n%c%s\x12%c%s" % (len(api_version), api_version, len(kind), kind)
    return b"k8s\x00\n%c%s\x12%c%s" % (len(types), types, len(body), body)


@pytest.mark.parametrize(("method", "url", "body", "headers", "code", "message"), [
    pytest.param("POST", CONFIGMAPS, b'{"apiVersion":1}', {}, 400,
        "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .apiVersion "
        "of type string",
        id="a-number-as-version"),
    pytest.param("POST", CONFIGMAPS, b'{"kind":{}}', {}, 400,
        "json: cannot unmarshal object into Go struct field .kind of type string", id="an-object-as-kind"),
    pytest.param("POST", CONFIGMAPS, DEEP, {}, 400, "exceeded max depth", id="deep-JSON"),
    pytest.param("POST", CONFIGMAPS, DEEP, YAML, 400, "exceeded max depth of 200", id="deep-JSON-as-YAML"),
    pytest.param("POST", CONFIGMAPS, b"kind: 1e30", YAML, 400, "cannot unmarshal number", id="a-number-past-64-bits"),
    pytest.param("POST", CONFIGMAPS, b"a: &a [*a]", YAML, 400, "contains itself", id="YAML-in-itself"),
    pytest.param("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests",
        '{"spec":{"request":"é"}}'.encode(), {}, 400,
        "illegal base64 data at input byte 0", id="bytes-beyond-ASCII"),
    pytest.param("POST", "/api/v1/namespaces/default/resourcequotas",
        b'{"metadata":{"name":"a"},"spec":{"hard":{"pods":18446744073709551616}}}', {}, 201, "", id="a-large-quantity"),
    pytest.param("POST", "/api/v1/namespaces/default/resourcequotas",
        b'{"metadata":{"name":"a"},"spec":{"hard":{"pods":"1e99999999"}}}', {}, 400, "quantity's suffix",
        id="a-huge-quantity"),
    pytest.param("DELETE", f"{CONFIGMAPS}/a", b'{"preconditions":"x"}', {}, 400,
        "json: cannot unmarshal string into Go struct field DeleteOptions.preconditions", id="text-as-preconditions"),
    pytest.param("GET", f"{CONFIGMAPS}?limit=-1", b"", {}, 200, "", id="a-negative-limit"),
    pytest.param("GET", f"{CONFIGMAPS}?limit=%D9%A3", b"", {}, 400, "invalid syntax", id="digits-of-another-script"),
    pytest.param("GET", f"{CONFIGMAPS}?limit=9223372036854775808", b"", {}, 400, "value out of range",
        id="a-huge-limit"),
    pytest.param("GET", f"{CONFIGMAPS}/a?resourceVersion=%C2%B2", b"", {}, 400, "invalid syntax",
        id="a-raised-two-as-revision"),
    pytest.param("GET", f"{CONFIGMAPS}?resourceVersion=18446744073709551616", b"", {}, 400, "value out of range",
        id="a-revision-past-64-bits"),
    pytest.param("PATCH", f"{CONFIGMAPS}/b?fieldManager=f", b"apiVersion: [v1]\nkind: ConfigMap", APPLY, 400,
        "invalid object type", id="apply-of-a-list-as-version"),
    pytest.param("PATCH", f"{CONFIGMAPS}/b?fieldManager=f", b"apiVersion: v1\nkind: ConfigMap\nmetadata: 5", APPLY, 500,
        ".metadata: expected map, got", id="apply-of-a-number-as-metadata"),
    pytest.param("PATCH", f"{CONFIGMAPS}/b?fieldManager=f", b"apiVersion: v1\nkind: ConfigMap\nmetadata: null", APPLY,
        400, "name", id="apply-of-no-metadata"),
    pytest.param("POST", CONFIGMAPS, b'{"metadata": {"name": "b"}, "data": {"x": "\\ud83d\\ude00"}}', YAML, 201, "",
        id="JSON-that-is-no-YAML"),
    pytest.param("PATCH", f"{SCALERS}/b?fieldManager=f",
        b'{"apiVersion":"autoscaling/v1","kind":"HorizontalPodAutoscaler","metadata":{"name":"b"},"spec":{"maxReplicas":1,'
        b'"minReplicas":2147483648,"scaleTargetRef":{"kind":"a","name":"b"}}}', APPLY, 422,
        "spec.minReplicas: Invalid value: -2147483648",
        id="apply-of-a-number-past-32-bits"),
    pytest.param("PATCH", f"{CONFIGMAPS}/a", b'{"data":' + DEEP + b"}", MERGE, 400, "exceeded max depth",
        id="a-deep-patch"),
    pytest.param("PATCH", f"{CONFIGMAPS}/a", b'{"metadata":{"ownerReferences":[{"uid":[]}]}}', STRATEGIC, 400,
        "has no scalar as merge key: uid", id="a-list-as-merge-key"),
    pytest.param("PATCH", f"{CONFIGMAPS}/a", b'{"metadata":{"finalizers":[["a"]]}}', STRATEGIC, 422,
        "lists of lists are not supported", id="a-list-of-lists"),
    pytest.param("PATCH", f"{CONFIGMAPS}/a", b'{"metadata":{"$setElementOrder/finalizers":"a"}}', STRATEGIC, 500,
        "expected a []interface {}, but received a string", id="text-as-order"),
    pytest.param("PATCH", f"{CONFIGMAPS}/a", b'{"metadata":{"$deleteFromPrimitiveList/finalizers":"a"}}', STRATEGIC,
        400,
        "invalid patch format of primitive list", id="text-as-what-to-delete"),
    pytest.param("PATCH", f"{CONFIGMAPS}/a", b'{"$retainKeys":"a"}', STRATEGIC, 400,
        "invalid patch format of retainKeys", id="text-as-keys-to-retain"),
    pytest.param("POST", CLASSES, protobuf(b"scheduling.k8s.io/v1", b"PriorityClass",
        b"\x12\x09\x81\x82\x83\x84\x85\x86\x87\x88\x01"),
        PROTOBUF, 400, "bytes where a number belongs", id="bytes-as-a-number"),
    pytest.param("POST", CONFIGMAPS, b"k8s\x00\x10\x01", PROTOBUF, 400, "a number where bytes belong",
        id="a-number-as-message"),
])  # fmt: skip
async def test_answers(method: str, url: str, body: bytes, headers: dict[str, str], code: int, message: str) -> None:
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, {**configmap("a"), "metadata": {"name": "a", "finalizers": ["x/y"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}]}})  # fmt: skip
        answer = await send(served, method, url, body, **headers)
        assert isinstance(answer.body, bytes)
        assert (answer.status, message in orjson.loads(answer.body).get("message", "")) == (code, True), answer.body


async def test_counts_beside_a_negative_total_are_faults_of_their_own() -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    deployment = {"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    url = "/apis/apps/v1/namespaces/default/deployments"
    async with serving() as served:
        await call(served, "POST", url, deployment)
        code, status = await call(served, "PATCH", f"{url}/web/status", {"status": {"replicas": -1}}, **MERGE)
        assert (code, status["reason"]) == (422, "Invalid")


async def test_an_item_named_by_default_can_be_applied_to() -> None:
    """`imagePullSecrets: [{}]` is an item whose name is empty, also to server-side apply."""
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}], "imagePullSecrets": [{}]}}
    url = "/api/v1/namespaces/default/pods"
    wanted = b"apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {a: b}}"
    async with serving() as served:
        assert (await call(served, "POST", url, pod))[0] == 201
        code, found = await call(served, "PATCH", f"{url}/p?fieldManager=f", wanted, **APPLY)
        assert (code, found["metadata"]["labels"]) == (200, {"a": "b"})


async def test_a_scale_may_come_as_yaml() -> None:
    container = {"name": "c", "image": "i:1"}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
    deployment = {"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    url = "/apis/apps/v1/namespaces/default/deployments"
    async with serving() as served:
        await call(served, "POST", url, deployment)
        code, scale = await call(served, "PUT", f"{url}/web/scale", b"spec:\n  replicas: 3\n", **YAML)
        assert (code, scale["spec"]) == (200, {"replicas": 3})


async def test_copies_do_not_grow_an_object_without_end() -> None:
    """Each operation doubles the data: 40 of them would make a terabyte of it."""
    operations: list[dict[str, Any]] = [{"op": "copy", "from": "/data", "path": f"/data/{n}"} for n in range(40)]
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("a", x="x" * 1000))
        answer = await send(served, "PATCH", f"{CONFIGMAPS}/a", operations, **JSON_PATCH)
        assert answer.status == 422


async def test_paths_that_are_not_served_make_no_series() -> None:
    async with serving() as served:
        for number in range(100):
            await send(served, "GET", f'/api/v1/namespaces/a/x"{number}')
            await send(served, f"X{number}", f"/x{number}")
            await send(served, "GET", f"/api/v1/namespaces/a/pods/a/x{number}")
        text = served.server.metrics.text().decode()
    assert 'verb="OTHER"' in text
    assert text.count("apiserver_request_total{") < 10
