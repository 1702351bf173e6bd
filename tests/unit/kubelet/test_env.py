"""Environments of containers, and the expansion of $(VAR)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from orchestrator.kubelet import env, expansion, serviceenv
from orchestrator.kubelet.downwardapi import NodeFacts
from orchestrator.kubelet.env import EnvError, Inputs, Reference

POD = {
    "metadata": {
        "name": "p",
        "namespace": "ns",
        "uid": "u",
        "labels": {"b": "2", "a": 'x"y'},
        "annotations": {"k": "v"},
    },
    "spec": {
        "serviceAccountName": "robot",
        "containers": [{"name": "web", "resources": {"limits": {"memory": "64Mi", "cpu": "250m"}}}],
    },
}
FACTS = NodeFacts("node-1", ("1.2.3.4",), {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "10Gi"})


def built(container: dict[str, Any], objects: dict[Reference, dict[str, Any]] | None = None) -> dict[str, str]:
    inputs = Inputs(POD, FACTS, ("10.0.0.2", "fd00::2"), {"SVC": "s"}, objects or {})
    return env.build({"name": "web", **container}, inputs)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$(NOPE)", "$(NOPE)"),
        ("a$(A)b$(B)c", "a1b2c"),
        ("$", "$"),
        ("$$$(A)", "$1"),
        ("$(A", "$(A"),
        ("$x", "$x"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    assert expansion.expand(text, {"A": "1", "B": "2"}) == expanded


def test_later_variables_refer_to_earlier_ones() -> None:
    made = built(
        {"env": [{"name": "A", "value": "$(SVC)"}, {"name": "B", "value": "$(A)$(C)"}, {"name": "C", "value": "c"}]}
    )
    assert made == {"SVC": "s", "A": "s", "B": "s$(C)", "C": "c"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['b']", "2"),
        ("metadata.annotations['none']", ""),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "robot"),
        ("status.podIPs", "10.0.0.2,fd00::2"),
        ("status.hostIP", "1.2.3.4"),
        ("metadata.labels", 'a="x\\"y"\nb="2"'),
    ],
)
def test_fields(path: str, value: str) -> None:
    assert built({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}]})["X"] == value


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"resource": "limits.memory"}, str(64 * 2**20)),
        ({"resource": "limits.memory", "divisor": "1Mi"}, "64"),
        ({"resource": "limits.cpu"}, "1"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "250"),
        ({"resource": "requests.cpu", "divisor": "1m"}, "250"),
        ({"resource": "limits.ephemeral-storage", "divisor": "1Gi"}, "10"),
    ],
)
def test_resources(reference: dict[str, str], value: str) -> None:
    assert built({"env": [{"name": "X", "valueFrom": {"resourceFieldRef": reference}}]})["X"] == value


CONFIG = Reference("configmap", "c")
SECRET = Reference("secret", "s")
OBJECTS: dict[Reference, dict[str, Any]] = {
    CONFIG: {"data": {"one": "1", "two": "2"}},
    SECRET: {"data": {"pw": base64.b64encode(b"hunter2").decode()}},
}


def test_keys_and_whole_objects() -> None:
    made = built(
        {
            "envFrom": [
                {"configMapRef": {"name": "c"}, "prefix": "P_"},
                {"secretRef": {"name": "gone", "optional": True}},
            ],
            "env": [
                {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
                {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "nope", "optional": True}}},
            ],
        },
        OBJECTS,
    )
    assert made == {"SVC": "s", "P_one": "1", "P_two": "2", "PW": "hunter2"}


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"envFrom": [{"configMapRef": {"name": "gone"}}]}, 'configmap "gone" not found'),
        (
            {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}}]},
            'secret "gone" not found',
        ),
        (
            {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
            "couldn't find key k in Secret ns/s",
        ),
    ],
)
def test_what_is_missing_is_named(container: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvError) as caught:
        built(container, OBJECTS)
    assert str(caught.value) == message


def service(name: str, namespace: str, address: str, *ports: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": address, "ports": list(ports)}}


def test_service_variables() -> None:
    services = [
        service("kubernetes", "default", "10.96.0.1", {"name": "https", "port": 443}),
        service("redis-main", "ns", "10.96.0.7", {"port": 6379, "protocol": "TCP"}),
        service("other", "elsewhere", "10.96.0.8", {"port": 1}),
        service("headless", "ns", "None", {"port": 1}),
    ]
    made = serviceenv.variables(services, "ns", links=True)
    assert made["REDIS_MAIN_SERVICE_HOST"] == "10.96.0.7"
    assert made["REDIS_MAIN_PORT_6379_TCP"] == "tcp://10.96.0.7:6379"
    assert made["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    assert not any(key.startswith(("OTHER", "HEADLESS")) for key in made)
    assert set(serviceenv.variables(services, "ns", links=False)) == {
        key for key in made if key.startswith("KUBERNETES")
    }
