"""Decoding: wrong types and unknown fields in kube-apiserver's words; pruning and canonical values."""

from typing import Any

import orjson
import pytest

from orchestrator.api import decoding
from orchestrator.api.meta import Object
from orchestrator.api.resources import CUSTOMRESOURCEDEFINITIONS, DEPLOYMENTS, PODS, SECRETS, Resource
from orchestrator.api.status import BadRequest

STRUCT_FIELD = "json: cannot unmarshal {} into Go struct field {} of type {}"


def in_container(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "c", **fields}]}}


@pytest.mark.parametrize(
    ("resource", "obj", "message"),
    [
        (
            DEPLOYMENTS,
            {"spec": {"replicas": "3"}},
            STRUCT_FIELD.format("string", "DeploymentSpec.spec.replicas", "int32"),
        ),
        (
            DEPLOYMENTS,
            {"spec": {"replicas": True}},
            STRUCT_FIELD.format("bool", "DeploymentSpec.spec.replicas", "int32"),
        ),
        (
            DEPLOYMENTS,
            {"spec": {"replicas": 3.5}},
            STRUCT_FIELD.format("number 3.5", "DeploymentSpec.spec.replicas", "int32"),
        ),
        (PODS, {"spec": "x"}, STRUCT_FIELD.format("string", "Pod.spec", "v1.PodSpec")),
        (
            PODS,
            {"metadata": {"labels": {"a": 1}}},
            STRUCT_FIELD.format("number", "ObjectMeta.metadata.labels", "string"),
        ),
        (
            PODS,
            {"spec": {"containers": "x"}},
            STRUCT_FIELD.format("string", "PodSpec.spec.containers", "[]v1.Container"),
        ),
        (
            PODS,
            {"spec": {"containers": ["x"]}},
            STRUCT_FIELD.format("string", "PodSpec.spec.containers", "v1.Container"),
        ),
        (
            PODS,
            in_container(imagePullPolicy=1),
            STRUCT_FIELD.format("number", "Container.spec.containers.imagePullPolicy", "v1.PullPolicy"),
        ),
        (
            PODS,
            in_container(livenessProbe={"httpGet": {"port": {}}}),
            STRUCT_FIELD.format(
                "object", "HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.port", "int32"
            ),
        ),
        (
            PODS,
            in_container(resources={"limits": {"cpu": "1x"}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (SECRETS, {"data": {"a": 5}}, STRUCT_FIELD.format("number", "Secret.data", "[]uint8")),
        (SECRETS, {"data": {"a": "!!"}}, "illegal base64 data at input byte 0"),
    ],
)
def test_wrong_types_are_told_as_kube_apiserver_tells_them(
    resource: Resource, obj: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        decoding.check(obj, resource)
    kind = resource.kind
    assert caught.value.message == f'{kind} in version "v1" cannot be handled as a {kind}: {message}'


FAULTY = (
    b'{"metadata":{"name":"a","name":"b"},"spec":{"containers":[{"name":"c","image":"i","image":"j","foo":2}],'
    b'"bar":3,"bar":4}}'
)
FAULTS = [
    'duplicate field "metadata.name"',
    'duplicate field "spec.containers[0].image"',
    'unknown field "spec.containers[0].foo"',
    'unknown field "spec.bar"',
]


def test_strict_validation_names_unknown_and_duplicate_fields_in_document_order() -> None:
    with pytest.raises(BadRequest) as caught:
        decoding.check(orjson.loads(FAULTY), PODS, "Strict", FAULTY)
    assert caught.value.message.endswith(f"strict decoding error: {', '.join(FAULTS)}")


def test_warn_returns_the_same_faults_and_prunes() -> None:
    obj = orjson.loads(FAULTY)
    assert decoding.check(obj, PODS, "Warn", FAULTY) == FAULTS
    assert obj == {
        "metadata": {"name": "b"},
        "spec": {"containers": [{"name": "c", "image": "j", "resources": {}}]},
        "status": {},
    }
    assert decoding.check(orjson.loads(FAULTY), PODS, "Ignore", FAULTY) == []


def test_json_inside_a_string_is_no_duplicate() -> None:
    obj = {"metadata": {"annotations": {"last": '{"a":1,"a":2}'}}, "spec": {"nodeName": "n"}}
    assert decoding.check(obj, PODS, "Strict", orjson.dumps(obj)) == []


def test_values_become_what_kubernetes_writes_back() -> None:
    obj = {
        "metadata": {"creationTimestamp": None, "labels": {}, "annotations": {"a": None}},
        "spec": {
            "nodeName": "",
            "hostNetwork": False,
            "automountServiceAccountToken": False,
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "1000m", "memory": 1024}}, "tty": False}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
        "status": {"startTime": "2026-01-01T02:00:00+02:00"},
    }
    assert decoding.check(obj, PODS, "Strict") == []
    assert obj == {
        "metadata": {"annotations": {"a": ""}},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1024"}}}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
        "status": {"startTime": "2026-01-01T00:00:00Z"},
    }


def test_schemas_within_a_schema_are_decoded_too() -> None:
    """Where a schema may be a list or a truth value instead; protobuf sends every field that is empty."""
    empty = {"id": "", "$schema": "", "format": "", "uniqueItems": False, "x-kubernetes-int-or-string": False}
    text = {**empty, "type": "string", "unknown": 1}
    schema = {
        "type": "object",
        "additionalProperties": {**text, "items": {**text}},
        "properties": {"a": {"type": "array", "items": {**text}}, "b": {"additionalProperties": False}},
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    obj: Object = {"spec": {"versions": [version]}}
    assert decoding.check(obj, CUSTOMRESOURCEDEFINITIONS, "Strict") == []
    kept = {"type": "string"}
    assert obj["spec"]["versions"][0]["schema"]["openAPIV3Schema"] == {
        "type": "object",
        "additionalProperties": {**kept, "items": kept},
        "properties": {"a": {"type": "array", "items": kept}, "b": {"additionalProperties": False}},
    }
