"""What a pod needs next: one row a situation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.api.podresources import is_sidecar
from orchestrator.kubelet import podspec
from orchestrator.kubelet.health import Health
from orchestrator.kubelet.runtime.interface import ContainerState, PodState, Sandbox, State
from orchestrator.kubelet.sync import (
    Action,
    BackOff,
    KillContainer,
    Observed,
    RemoveSandbox,
    ReplaceSandbox,
    ResetContainers,
    ResizeContainer,
    StartContainer,
    StopPod,
    sync,
)

NOW = 1_000.0
READY = Sandbox(id="s", is_ready=True)
APP: dict[str, Any] = {"name": "web", "image": "web:1"}


def pod(policy: str = "Always", inits: tuple[dict[str, Any], ...] = (), **container: Any) -> dict[str, Any]:
    spec = {"restartPolicy": policy, "containers": [{**APP, **container}], "initContainers": list(inits)}
    return {"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "spec": spec}


def state(name: str, what: State, kind: str = "app", **more: Any) -> ContainerState:
    spec_hash = more.pop("spec_hash", "")
    return ContainerState(id=f"{name}-id", name=name, kind=kind, state=what, spec_hash=spec_hash, **more)  # type: ignore[arg-type]


def seen(
    the_pod: dict[str, Any], *containers: ContainerState, sandbox: Sandbox | None = READY, **more: Any
) -> Observed:
    found = PodState(uid="u", sandboxes=(sandbox,) if sandbox else (), containers=containers)
    return Observed(pod=the_pod, state=found, now=NOW, **more)


RESIZED = {"requests": {"cpu": "2"}}
INIT = {"name": "init", "image": "i:1"}
SIDECAR = {"name": "side", "image": "s:1", "restartPolicy": "Always"}
STARTUP = {"startupProbe": {"exec": {}}}
RESTART_ALL = {
    "restartPolicyRules": [
        {"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}},
        {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [3, 42]}},
    ]
}
running, exited, unknown, created = State.RUNNING, State.EXITED, State.UNKNOWN, State.CREATED


@pytest.mark.parametrize(
    ("observed", "actions"),
    [
        pytest.param(seen(pod(), sandbox=None), [ReplaceSandbox(0)], id="nothing-is-there"),
        pytest.param(
            seen(pod(), sandbox=replace(READY, is_ready=False, attempt=2)),
            [ReplaceSandbox(3)],
            id="a-dead-sandbox-is-made-anew",
        ),
        pytest.param(
            replace(
                seen(pod(), state("web", running)),
                state=PodState(uid="u", sandboxes=(replace(READY, id="stray", is_ready=False, attempt=1), READY)),
            ),
            [RemoveSandbox("stray")],
            id="a-sandbox-that-came-too-late-goes",
        ),
        pytest.param(seen(pod()), [StartContainer("web", "app", 0)], id="an-empty-sandbox-gets-its-container"),
        pytest.param(seen(pod(), state("web", running)), [], id="all-is-well"),
        pytest.param(
            seen(pod(), state("web", created)), [StartContainer("web", "app", 0)], id="a-created-one-was-never-started"
        ),
        pytest.param(
            seen(pod(), state("web", exited, exit_code=1, attempt=4)),
            [StartContainer("web", "app", 5)],
            id="restart-always",
        ),
        pytest.param(
            seen(pod(), state("web", exited, exit_code=1), backoff_until={"web": NOW + 9}),
            [BackOff("web", NOW + 9)],
            id="not-before-its-back-off-is-over",
        ),
        pytest.param(
            seen(pod("OnFailure"), state("web", exited, exit_code=0)), [StopPod()], id="on-failure-and-succeeded"
        ),
        pytest.param(
            seen(pod("OnFailure"), state("web", unknown)),
            [StartContainer("web", "app", 1)],
            id="an-unknown-end-is-no-success",
        ),
        pytest.param(seen(pod("Never"), state("web", exited, exit_code=3)), [StopPod()], id="never-again"),
        pytest.param(
            seen(pod("Never"), state("web", unknown), sandbox=replace(READY, is_ready=False)),
            [],
            id="never-again-after-the-node-was-killed",
        ),
        pytest.param(
            seen(
                pod(
                    "Never", restartPolicyRules=[{"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}}]
                ),
                state("web", exited, exit_code=3),
            ),
            [StartContainer("web", "app", 1)],
            id="a-rule-restarts-this-exit-code",
        ),
        pytest.param(
            seen(
                pod("Never", inits=(INIT, SIDECAR), **RESTART_ALL),
                state("web", exited, exit_code=42),
                state("side", running, "init"),
                state("init", exited, "init"),
            ),
            [ResetContainers(("init-id", "side-id", "web-id"))],
            id="a-rule-restarts-all",
        ),
        pytest.param(
            seen(pod("Never", **RESTART_ALL), state("web", exited, exit_code=3)),
            [StartContainer("web", "app", 1)],
            id="the-first-rule-decides",
        ),
        pytest.param(
            seen(pod("Never", **RESTART_ALL), state("web", exited, exit_code=1)),
            [StopPod()],
            id="no-rule-is-about-this-exit-code",
        ),
        pytest.param(
            seen(pod("Never", inits=({**INIT, **RESTART_ALL},)), state("init", exited, "init", exit_code=42)),
            [ResetContainers(("init-id",))],
            id="a-rule-of-an-init-container",
        ),
        pytest.param(
            seen(pod(), state("web", running, spec_hash="other")),
            [KillContainer("web-id", "web", "Container web definition changed")],
            id="another-image-means-another-container",
        ),
        pytest.param(
            seen(pod(), state("web", running), health={"web-id": Health(liveness=False)}),
            [KillContainer("web-id", "web", "Container web failed liveness probe, will be restarted", "liveness")],
            id="a-container-that-is-not-alive-is-killed",
        ),
        pytest.param(seen(pod(inits=(INIT,))), [StartContainer("init", "init", 0)], id="initialization-comes-first"),
        pytest.param(seen(pod(inits=(INIT,)), state("init", running, "init")), [], id="wait-for-initialization"),
        pytest.param(
            seen(pod(inits=(INIT,)), state("init", exited, "init")),
            [StartContainer("web", "app", 0)],
            id="initialized",
        ),
        pytest.param(
            seen(pod(inits=(INIT,)), state("init", exited, "init", exit_code=1)),
            [StartContainer("init", "init", 1)],
            id="a-failed-initialization-is-repeated",
        ),
        pytest.param(
            seen(pod("Never", inits=(INIT,)), state("init", exited, "init", exit_code=1)),
            [StopPod()],
            id="a-failed-initialization-ends-a-pod-that-never-restarts",
        ),
        pytest.param(
            seen(pod(inits=(INIT,)), state("web", running)),
            [],
            id="a-lost-init-container-of-a-running-pod-is-no-matter",
        ),
        pytest.param(
            seen(pod(inits=(SIDECAR, INIT)), state("side", running, "init")),
            [StartContainer("init", "init", 0)],
            id="a-sidecar-does-not-hold-up-what-follows",
        ),
        pytest.param(
            seen(pod(inits=({**SIDECAR, **STARTUP},)), state("side", running, "init")),
            [],
            id="a-sidecar-that-has-not-started-does",
        ),
        pytest.param(
            seen(pod(inits=(SIDECAR,)), state("web", running), state("side", exited, "init", exit_code=0)),
            [StartContainer("side", "init", 1)],
            id="a-sidecar-is-restarted-whatever-its-code",
        ),
        pytest.param(
            seen(pod("Never", inits=(SIDECAR,)), state("web", exited), state("side", running, "init")),
            [StopPod()],
            id="a-sidecar-does-not-keep-a-pod-alive",
        ),
        pytest.param(
            seen(pod("OnFailure"), succeeded=frozenset({"web"})),
            [StopPod()],
            id="what-succeeded-in-an-earlier-sandbox-is-not-repeated",
        ),
        pytest.param(
            seen(pod(), attempts={"web": 2}), [StartContainer("web", "app", 3)], id="attempts-outlive-a-sandbox"
        ),
        pytest.param(
            seen(pod(resources=RESIZED), state("web", running), actuated={"web": {"requests": {"cpu": "1"}}}),
            [ResizeContainer("web-id", "web")],
            id="what-is-allocated-goes-into-the-control-group",
        ),
        pytest.param(
            seen(pod(resources=RESIZED), state("web", running), actuated={"web": RESIZED}), [], id="and-is-there"
        ),
        pytest.param(seen(pod(resources=RESIZED), state("web", running)), [], id="a-container-without-a-record-has-it"),
        pytest.param(
            seen(
                pod(resources=RESIZED, resizePolicy=[{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]),
                state("web", running),
                actuated={"web": {"requests": {"cpu": "1"}}},
            ),
            [KillContainer("web-id", "web", "Container web resize requires restart")],
            id="a-resize-may-want-a-restart",
        ),
        pytest.param(
            seen(
                pod(resources=RESIZED, resizePolicy=[{"resourceName": "memory", "restartPolicy": "RestartContainer"}]),
                state("web", running),
                actuated={"web": {"requests": {"cpu": "1"}}},
            ),
            [ResizeContainer("web-id", "web")],
            id="but-not-for-another-resource",
        ),
    ],
)
def test_sync(observed: Observed, actions: list[Action]) -> None:
    assert sync(observed) == actions


def applied(observed: Observed, actions: list[Action]) -> Observed:
    """What is seen after the actions were carried out, with containers that start and stay."""
    found = observed.state
    for action in actions:
        match action:
            case ReplaceSandbox(attempt):
                found = replace(found, sandboxes=(replace(READY, attempt=attempt),), containers=())
            case StartContainer(name, kind, attempt):
                container = podspec.find(observed.pod, name)
                assert container is not None
                done = kind == "init" and not is_sidecar(container[1])
                made = state(name, exited if done else running, kind, attempt=attempt)
                found = replace(found, containers=(made, *found.containers))
            case KillContainer(container_id):
                found = replace(
                    found,
                    containers=tuple(
                        replace(known, state=exited, exit_code=143) if known.id == container_id else known
                        for known in found.containers
                    ),
                )
            case StopPod():
                containers = tuple(replace(known, state=exited) for known in found.containers)
                sandboxes = tuple(replace(known, is_ready=False) for known in found.sandboxes)
                found = replace(found, containers=containers, sandboxes=sandboxes)
    return replace(observed, state=found, health={}, backoff_until={})


@given(
    policy=st.sampled_from(["Always", "OnFailure", "Never"]),
    what=st.none() | st.sampled_from(list(State)),
    init=st.none() | st.sampled_from([created, running, exited]),
    code=st.integers(0, 2),
    ready=st.booleans(),
    with_init=st.booleans(),
    with_sidecar=st.booleans(),
)
def test_sync_comes_to_rest(
    policy: str, what: State | None, init: State | None, code: int, ready: bool, with_init: bool, with_sidecar: bool
) -> None:
    """Whatever is found, carrying out the actions leads to a state that asks for nothing more."""
    inits = (*((SIDECAR,) if with_sidecar else ()), *((INIT,) if with_init else ()))
    containers = []
    if what is not None:
        containers.append(state("web", what, exit_code=code))
    elif with_init and init is not None:
        containers.append(state("init", init, "init", exit_code=code if init is exited else 0))
    observed = seen(pod(policy, inits), *containers, sandbox=replace(READY, is_ready=ready))
    for _ in range(10):
        actions = sync(observed)
        if not actions:
            return
        observed = applied(observed, actions)
    raise AssertionError(f"still wants {sync(observed)}")
