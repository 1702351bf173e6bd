"""Pod Security Standards: what each level refuses, in which words, and what labels of a namespace mean."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.meta import Object
from orchestrator.api.resources import NAMESPACES, PODS
from orchestrator.api.status import Forbidden, Invalid
from orchestrator.api.wire import Identity
from orchestrator.apiserver.admission.chain import Chain
from orchestrator.apiserver.admission.podsecurity import PodSecurity, findings
from orchestrator.apiserver.admission.podsecurity_view import Seen
from orchestrator.apiserver.lookup import MemoryLookup
from orchestrator.apiserver.request import Attributes

ENFORCE = "pod-security.kubernetes.io/enforce"
WARN = "pod-security.kubernetes.io/warn"
CONFINED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod(security: dict[str, Any] | None = None, **spec: Any) -> Object:
    container: dict[str, Any] = {"name": "c", "image": "i"}
    if security is not None:
        container["securityContext"] = security
    return {"metadata": {"name": "web", "namespace": "d"}, "spec": {"containers": [container], **spec}}


def shown(obj: Object, level: str) -> list[str]:
    return [str(one) for one in findings(Seen.of(obj), level)]


@pytest.mark.parametrize(
    ("obj", "found"),
    [
        pytest.param(pod(), [], id="nothing-special"),
        pytest.param(
            pod(hostNetwork=True, hostPID=True), ["host namespaces (hostNetwork=true, hostPID=true)"], id="namespaces"
        ),
        pytest.param(
            pod({"privileged": True}),
            ['privileged (container "c" must not set securityContext.privileged=true)'],
            id="privileged",
        ),
        pytest.param(
            pod({"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}}),
            [
                'non-default capabilities (container "c" must not include "NET_ADMIN" in '
                "securityContext.capabilities.add)"
            ],
            id="capabilities",
        ),
        pytest.param(
            pod(volumes=[{"name": "a", "hostPath": {}}, {"name": "b", "hostPath": {}}]),
            ['hostPath volumes (volumes "a", "b")'],
            id="host-paths",
        ),
        pytest.param(
            pod(containers=[{"name": "c", "ports": [{"hostPort": 80}, {"hostPort": 443}]}]),
            ['hostPort (container "c" uses hostPorts 443, 80)'],
            id="host-ports",
        ),
        pytest.param(
            pod(containers=[{"name": "c", "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}]),
            ['probe or lifecycle host (container "c" uses probe or lifecycle host "10.0.0.1")'],
            id="probe-of-another-host",
        ),
        pytest.param(
            pod(securityContext={"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_syncookies"}]}),
            ["forbidden sysctls (kernel.msgmax)"],
            id="sysctls",
        ),
        pytest.param(
            pod({"seccompProfile": {"type": "Unconfined"}}, securityContext={"seccompProfile": {"type": "Unconfined"}}),
            ['seccompProfile (pod and container "c" must not set securityContext.seccompProfile.type to "Unconfined")'],
            id="seccomp",
        ),
        pytest.param(
            pod({"seLinuxOptions": {"type": "spc_t", "user": "root"}}),
            [
                'seLinuxOptions (container "c" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may '
                "not be set)"
            ],
            id="selinux",
        ),
        pytest.param(pod({"procMount": "Unmasked"}, hostUsers=False), [], id="own-users-may-unmask"),
    ],
)
def test_baseline(obj: Object, found: list[str]) -> None:
    assert shown(obj, "baseline") == found
    assert shown(obj, "privileged") == []


@pytest.mark.parametrize(
    ("obj", "found"),
    [
        pytest.param(pod(CONFINED), [], id="confined"),
        pytest.param(
            pod(),
            [
                'allowPrivilegeEscalation != false (container "c" must set '
                "securityContext.allowPrivilegeEscalation=false)",
                'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"])',
                'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true)',
                'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to '
                '"RuntimeDefault" or "Localhost")',
            ],
            id="nothing-said",
        ),
        pytest.param(
            pod(CONFINED, volumes=[{"name": "v", "hostPath": {"path": "/"}}]),
            ['restricted volume types (volume "v" uses restricted volume type "hostPath")'],
            id="a-host-path-is-named-once",
        ),
        pytest.param(
            pod({**CONFINED, "runAsUser": 0}, securityContext={"runAsUser": 0}),
            ['runAsUser=0 (pod and container "c" must not set runAsUser=0)'],
            id="root",
        ),
        pytest.param(
            pod({**CONFINED, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CHOWN"]}}),
            ['unrestricted capabilities (container "c" must not include "CHOWN" in securityContext.capabilities.add)'],
            id="adds-back",
        ),
    ],
)
def test_restricted(obj: Object, found: list[str]) -> None:
    assert shown(obj, "restricted") == found


def world(**labels: str) -> tuple[MemoryLookup, Chain]:
    lookup = MemoryLookup()
    names = {"enforce": ENFORCE, "warn": WARN}
    lookup.put(NAMESPACES, {"metadata": {"name": "d", "labels": {names[key]: value for key, value in labels.items()}}})
    return lookup, Chain([], [PodSecurity(lookup)])


def asked(obj: Object, resource: str = "pods", operation: str = "CREATE", **more: Any) -> Attributes:
    return Attributes(
        user=Identity("ann"), verb="create", resource=resource, namespace="d", object=obj, operation=operation, **more
    )


async def test_enforcing_and_warning() -> None:
    _, chain = world(enforce="baseline", warn="restricted")
    with pytest.raises(Forbidden) as refused:
        await chain.validate(asked(pod(hostNetwork=True)))
    assert str(refused.value) == (
        'pods "web" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
    )
    attributes = asked(pod())
    await chain.validate(attributes)
    assert attributes.warnings[0].startswith('would violate PodSecurity "restricted:latest": allowPrivilege')


async def test_a_template_is_warned_of_and_not_refused() -> None:
    _, chain = world(enforce="baseline", warn="baseline")
    deployment = {"metadata": {"name": "web"}, "spec": {"template": pod(hostNetwork=True)}}
    attributes = asked(deployment, "deployments", group="apps")
    await chain.validate(attributes)
    assert len(attributes.warnings) == 1


async def test_labels_of_a_namespace() -> None:
    lookup, chain = world()
    lookup.put(PODS, pod(hostNetwork=True))
    lookup.put(PODS, {**pod(hostNetwork=True), "metadata": {"name": "api", "namespace": "d"}})
    wrong = {"metadata": {"name": "d", "labels": {ENFORCE: "none", f"{WARN}-version": "1.30"}}}
    with pytest.raises(Invalid) as refused:
        await chain.validate(asked(wrong, "namespaces"))
    assert len(refused.value.causes) == 2
    attributes = asked(
        {"metadata": {"name": "d", "labels": {ENFORCE: "baseline"}}},
        "namespaces",
        "UPDATE",
        old_object={"metadata": {"name": "d"}},
    )
    await chain.validate(attributes)
    assert attributes.warnings == [
        'existing pods in namespace "d" violate the new PodSecurity enforce level "baseline:latest"',
        "api (and 1 other pod): host namespaces",
    ]


async def test_an_update_is_looked_at_only_when_an_image_changes() -> None:
    _, chain = world(enforce="baseline")
    old = pod(hostNetwork=True)
    await chain.validate(asked(pod(hostNetwork=True), operation="UPDATE", old_object=old))
    new = pod(hostNetwork=True)
    new["spec"]["containers"][0]["image"] = "other"
    with pytest.raises(Forbidden):
        await chain.validate(asked(new, operation="UPDATE", old_object=old))
