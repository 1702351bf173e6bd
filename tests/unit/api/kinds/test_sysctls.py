"""Kernel parameters in a pod's security context."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.kinds.registry import rules
from orchestrator.api.resources import PODS

RULE = (
    r"must have at most 253 characters and match regex "
    r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
)


def told(*names: str, **spec: Any) -> list[tuple[str, str]]:
    container = {
        "name": "c",
        "image": "busybox:1",
        "imagePullPolicy": "IfNotPresent",
        "terminationMessagePolicy": "File",
    }
    wanted = [{"name": name, "value": "1"} for name in names]
    full = {
        "containers": [container],
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "securityContext": {"sysctls": wanted},
    }
    pod = {"metadata": {"name": "p", "namespace": "default"}, "spec": {**full, **spec}}
    return [(cause.field, cause.message) for cause in rules(PODS).validate_create(pod)]


AT = "spec.securityContext.sysctls"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(("kernel.shmmax", "safe-and-unsafe", "net/ipv4/conf/eno2.100/rp_filter"), [], id="good"),
        pytest.param(("foo-",), [(f"{AT}[0].name", f'Invalid value: "foo-": {RULE}')], id="ends-with-a-dash"),
        pytest.param(("a.b", "bar.."), [(f"{AT}[1].name", f'Invalid value: "bar..": {RULE}')], id="ends-with-dots"),
        pytest.param(("",), [(f"{AT}[0].name", "Required value")], id="no-name"),
        pytest.param(("a.b", "a.b"), [(f"{AT}[1].name", 'Duplicate value: "a.b"')], id="twice"),
    ],
)
def test_names(names: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    assert told(*names) == expected


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("net.ipv4.ip_forward", "hostNetwork"),
        ("net/ipv4/conf/eno2.100/rp_filter", "hostNetwork"),
        ("kernel.shm_rmid_forced", "hostIPC"),
        ("fs.mqueue.msg_max", "hostIPC"),
    ],
)
def test_a_parameter_of_the_nodes_own_namespace(name: str, shared: str) -> None:
    assert told(name) == []
    assert told(name, **{shared: True}) == [
        (f"{AT}[0].name", f"Invalid value: \"{name}\": may not be specified when '{shared}' is true")
    ]
    other = "hostIPC" if shared == "hostNetwork" else "hostNetwork"
    assert told(name, **{other: True}) == []
