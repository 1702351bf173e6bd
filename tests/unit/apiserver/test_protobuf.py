"""Protobuf bodies: what a typed Go client would send, put together by hand, and what it means as JSON."""

from __future__ import annotations

import pytest

from orchestrator.api.status import BadRequest
from orchestrator.apiserver.encoding import PROTOBUF
from orchestrator.apiserver.protobuf.decoding import decode
from orchestrator.apiserver.protobuf.envelope import MAGIC
from tests.apiserver_fixture import serving
from tests.unit.apiserver.rest import CONFIGMAPS, call, send


def varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (1 << 64) - 1)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def body(api_version: str, kind: str, message: bytes) -> bytes:
    return MAGIC + field(1, field(1, api_version) + field(2, kind)) + field(2, message) + field(3, "")


METADATA = field(1, "a") + field(2, "") + field(3, "") + field(8, b"") + field(11, field(1, "app") + field(2, "web"))
CONFIGMAP = (
    field(1, METADATA) + field(2, field(1, "x") + field(2, "1")) + field(3, field(1, "b") + field(2, b"\x00\xff"))
)


def test_maps_bytes_and_an_empty_time() -> None:
    assert decode(body("v1", "ConfigMap", CONFIGMAP)) == {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "a", "generateName": "", "namespace": "", "labels": {"app": "web"}},
        "data": {"x": "1"},
        "binaryData": {"b": "AP8="},
    }


QUANTITY = field(1, "100m")
PROBE = field(1, field(2, field(1, "/healthz") + field(2, field(1, 1) + field(3, "http")))) + field(2, 5)
CONTAINER = field(1, "c") + field(8, field(1, field(1, "cpu") + field(2, QUANTITY))) + field(10, PROBE)
VOLUME = field(1, "v") + field(2, field(2, b""))
POD = field(1, METADATA) + field(2, field(1, VOLUME) + field(2, CONTAINER) + field(4, -5) + field(3, "Always"))


def test_inlined_messages_quantities_and_ports_by_name() -> None:
    spec = decode(body("v1", "Pod", POD))["spec"]
    assert spec["volumes"] == [{"name": "v", "emptyDir": {}}]  # VolumeSource does not show in JSON
    (container,) = spec["containers"]
    assert container["resources"] == {"limits": {"cpu": "100m"}}
    assert container["livenessProbe"] == {"httpGet": {"path": "/healthz", "port": "http"}, "initialDelaySeconds": 5}
    assert spec["terminationGracePeriodSeconds"] == -5


def test_times_and_extra_values() -> None:
    lease = field(1, METADATA) + field(2, field(1, "me") + field(3, field(1, 1_700_000_000) + field(2, 5000)))
    assert decode(body("coordination.k8s.io/v1", "Lease", lease))["spec"] == {
        "holderIdentity": "me",
        "acquireTime": "2023-11-14T22:13:20.000005Z",
    }
    extra = field(1, "k") + field(2, field(1, "a") + field(1, "b"))
    review = field(2, field(5, extra) + field(3, "u"))
    found = decode(body("authorization.k8s.io/v1", "SubjectAccessReview", review))
    assert found["spec"] == {"extra": {"k": ["a", "b"]}, "user": "u"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        body("v1", "Nothing", b""),
        body("v1", "Pod", b"\x0a\x7f"),
        body("v1", "Pod", field(1, 7)),
        body("v1", "Pod", b"\xff" * 20),
        body("v1", "Pod", field(1, field(1, b"\xff\xfe"))),
    ],
)
def test_what_does_not_parse_is_a_bad_request(data: bytes) -> None:
    with pytest.raises(BadRequest):
        decode(data)


async def test_a_typed_clients_create() -> None:
    async with serving() as served:
        accept = "application/vnd.kubernetes.protobuf,application/json"
        data = body("v1", "ConfigMap", CONFIGMAP)
        answer = await send(served, "POST", CONFIGMAPS, data, content_type=PROTOBUF, accept=accept)
        assert (answer.status, answer.headers["content-type"]) == (201, PROTOBUF)
        assert isinstance(answer.body, bytes)
        made = decode(answer.body)
        assert (made["data"], made["metadata"]["namespace"]) == ({"x": "1"}, "default")
        assert "generateName" not in made["metadata"]
        options = body("v1", "DeleteOptions", field(1, 0) + field(4, "Background"))
        kind = PROTOBUF
        assert (await call(served, "DELETE", f"{CONFIGMAPS}/a", options, content_type=kind))[0] == 200


def test_a_definition_with_schemas_that_may_be_something_else() -> None:
    text = field(5, "string")
    items = field(1, text)
    props = (
        field(1, "") + field(5, "object")
        + field(9, 0).replace(varint(9 << 3) + b"\0", varint(9 << 3 | 1) + b"\0\0\0\0\0\0\x24\x40")
        + field(8, field(1, '{"a":1}')) + field(20, field(1, '"x"')) + field(20, field(1, "2"))
        + field(29, field(1, "list") + field(2, field(5, "array") + field(24, items)))
        + field(29, field(1, "tuple") + field(2, field(24, field(2, text) + field(2, field(5, "integer")))))
        + field(30, field(1, 1)) + field(32, field(1, "a") + field(2, field(2, "b")))
        + field(33, field(1, 0) + field(2, text)) + field(38, 1)
    )  # fmt: skip
    version = field(1, "v1") + field(2, 1) + field(3, 1) + field(4, field(1, props))
    spec = field(1, "example.com") + field(3, field(1, "boats")) + field(4, "Namespaced") + field(7, version)
    found = decode(body("apiextensions.k8s.io/v1", "CustomResourceDefinition", field(1, METADATA) + field(2, spec)))
    assert found["spec"]["names"] == {"plural": "boats"}
    schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema == {
        "id": "",
        "type": "object",
        "maximum": 10,
        "default": {"a": 1},
        "enum": ["x", 2],
        "properties": {
            "list": {"type": "array", "items": {"type": "string"}},
            "tuple": {"items": [{"type": "string"}, {"type": "integer"}]},
        },
        "additionalProperties": True,
        "dependencies": {"a": ["b"]},
        "additionalItems": {"type": "string"},
        "x-kubernetes-preserve-unknown-fields": True,
    }


def test_an_api_service() -> None:
    spec = field(1, field(1, "default") + field(2, "wardle") + field(3, 443)) + field(2, "g") + field(3, "v1")
    found = decode(body("apiregistration.k8s.io/v1", "APIService", field(1, METADATA) + field(2, spec)))
    assert found["spec"] == {
        "service": {"namespace": "default", "name": "wardle", "port": 443}, "group": "g", "version": "v1",
    }  # fmt: skip
