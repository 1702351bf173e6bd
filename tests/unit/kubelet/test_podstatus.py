"""Phases, conditions and container statuses of pods in all situations."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api import conditions
from orchestrator.kubelet.health import Health
from orchestrator.kubelet.podstatus import RESTARTING, Known, Verdict, Waiting, pod_status
from orchestrator.kubelet.runtime.interface import ContainerState, PodState, Sandbox, State

NOW = 1_700_000_000.0


def pod(policy: str = "Always", inits: list[dict[str, Any]] | None = None, **container: Any) -> dict[str, Any]:
    containers = [{"name": "web", "image": "web:1", **container}]
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": "u", "generation": 3},
        "spec": {"restartPolicy": policy, "containers": containers, "initContainers": inits or []},
    }


def state(name: str, what: State, kind: str = "app", **more: Any) -> ContainerState:
    times = {"started_at": NOW - 60, "finished_at": NOW - 1 if what is State.EXITED else 0.0}
    return ContainerState(id=f"{name}{more.get('attempt', 0)}", name=name, kind=kind, state=what, **{**times, **more})  # type: ignore[arg-type]


def known(the_pod: dict[str, Any], *containers: ContainerState, **more: Any) -> Known:
    found = PodState(uid="u", sandboxes=(Sandbox(id="s", is_ready=True),), containers=containers)
    return Known(pod=the_pod, state=found, now=NOW, pod_ips=("10.0.0.2", "fd00::2"), host_ips=("1.2.3.4",), **more)


INIT = {"name": "init", "image": "i:1"}
RULES = {
    "restartPolicy": "Never",
    "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
}

RESTART_ALL = {
    "restartPolicy": "Never",
    "restartPolicyRules": [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}],
}


@pytest.mark.parametrize(
    ("what", "phase"),
    [
        pytest.param(known(pod()), "Pending", id="nothing-runs"),
        pytest.param(known(pod(), state("web", State.RUNNING)), "Running", id="running"),
        pytest.param(known(pod(), state("web", State.EXITED)), "Running", id="between-two-runs"),
        pytest.param(known(pod("Never"), state("web", State.EXITED)), "Succeeded", id="ended-well"),
        pytest.param(known(pod("Never"), state("web", State.EXITED, exit_code=1)), "Failed", id="ended-badly"),
        pytest.param(known(pod("OnFailure"), state("web", State.EXITED, exit_code=1)), "Running", id="to-be-repeated"),
        pytest.param(known(pod("Never"), state("web", State.UNKNOWN)), "Failed", id="unknown-is-not-success"),
        pytest.param(
            known(pod("Always", restartPolicy="Never"), state("web", State.EXITED, exit_code=1)),
            "Failed",
            id="own-policy",
        ),
        pytest.param(
            known(pod("Never", restartPolicy="Always"), state("web", State.EXITED)), "Running", id="own-policy-always"
        ),
        pytest.param(
            known(pod("Never", **RESTART_ALL), state("web", State.EXITED, exit_code=42)), "Running", id="all-restart"
        ),
        pytest.param(known(pod("Always", **RULES), state("web", State.EXITED, exit_code=42)), "Running", id="a-rule"),
        pytest.param(known(pod("Always", **RULES), state("web", State.EXITED, exit_code=1)), "Failed", id="no-rule"),
        pytest.param(known(pod(inits=[INIT]), state("init", State.RUNNING, "init")), "Pending", id="initializing"),
        pytest.param(
            known(pod("Never", [INIT]), state("init", State.EXITED, "init", exit_code=1)), "Failed", id="init-failed"
        ),
        pytest.param(
            known(pod(), state("web", State.EXITED, exit_code=143), is_ending=True), "Failed", id="killed-for-deletion"
        ),
        pytest.param(
            known(pod(), verdict=Verdict("Failed", "OutOfcpu", "too big")), "Failed", id="not-admitted-to-the-node"
        ),
        pytest.param(
            known({**pod(), "status": {"phase": "Succeeded"}}, state("web", State.RUNNING)), "Succeeded", id="for-good"
        ),
    ],
)
def test_phase(what: Known, phase: str) -> None:
    assert pod_status(what)["phase"] == phase


def test_a_pod_has_not_failed_before_its_containers_have_ended() -> None:
    doomed = known(
        {**pod(), "status": {"phase": "Running"}},
        state("web", State.RUNNING),
        verdict=Verdict("Failed", "Evicted", "too big"),
    )
    status = pod_status(doomed)
    assert (status["phase"], status.get("reason")) == ("Running", None)


def test_a_running_pod_is_ready_and_has_addresses() -> None:
    status = pod_status(known(pod(), state("web", State.RUNNING)))
    assert status["podIP"] == "10.0.0.2"
    assert status["podIPs"] == [{"ip": "10.0.0.2"}, {"ip": "fd00::2"}]
    assert {condition["type"]: condition["status"] for condition in status["conditions"]} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
        "PodScheduled": "True",
    }
    assert all(condition["observedGeneration"] == 3 for condition in status["conditions"])


def test_readiness_waits_for_its_probe() -> None:
    probed = pod(readinessProbe={"exec": {}})
    before = pod_status(known(probed, state("web", State.RUNNING)))
    ready = conditions.find(before["conditions"], "Ready")
    assert ready is not None
    assert (ready["reason"], ready["message"]) == ("ContainersNotReady", "containers with unready status: [web]")
    after = pod_status(known(probed, state("web", State.RUNNING), health={"web0": Health(readiness=True)}))
    assert after["containerStatuses"][0]["ready"]


def test_a_readiness_gate_holds_the_pod_back() -> None:
    gated = pod()
    gated["spec"]["readinessGates"] = [{"conditionType": "example.com/up"}]
    status = pod_status(known(gated, state("web", State.RUNNING)))
    ready = conditions.find(status["conditions"], "Ready")
    assert ready is not None
    assert ready["reason"] == "ReadinessGatesNotReady"


def test_a_crash_loop_shows_why_it_waits_and_how_it_ended() -> None:
    waiting = {"web": Waiting("CrashLoopBackOff", "back-off 10s")}
    dead = state("web", State.EXITED, exit_code=7, attempt=2)
    (status,) = pod_status(known(pod(), dead, waiting=waiting, messages={"web2": "why"}))["containerStatuses"]
    assert status["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    ended = status["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (7, "Error", "why")
    assert status["restartCount"] == 2


@pytest.mark.parametrize(
    ("dead", "code", "reason"),
    [
        pytest.param(state("web", State.EXITED), 0, "Completed", id="well"),
        pytest.param(state("web", State.EXITED, exit_code=137, is_oom_killed=True), 137, "OOMKilled", id="memory"),
        pytest.param(state("web", State.UNKNOWN), 137, "ContainerStatusUnknown", id="lost"),
        pytest.param(state("web", State.EXITED, exit_code=128, start_error="no such"), 128, "StartError", id="start"),
    ],
)
def test_reasons(dead: ContainerState, code: int, reason: str) -> None:
    (status,) = pod_status(known(pod("Never"), dead))["containerStatuses"]
    assert (status["state"]["terminated"]["exitCode"], status["state"]["terminated"]["reason"]) == (code, reason)


def test_what_the_runtime_forgot_is_kept_from_the_last_status() -> None:
    ended = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    before = {"name": "web", "state": ended, "restartCount": 4, "containerID": "podman://x", "lastState": {}}
    the_pod = {**pod(), "status": {"phase": "Succeeded", "containerStatuses": [before]}}
    (status,) = pod_status(known(the_pod))["containerStatuses"]
    assert status["state"] == ended
    assert status["restartCount"] == 4


def test_transition_times_move_only_with_the_status() -> None:
    first = pod_status(known(pod(), state("web", State.RUNNING)))
    later = Known(
        pod={**pod(), "status": first},
        state=PodState(uid="u", sandboxes=(Sandbox(id="s", is_ready=True),), containers=(state("web", State.RUNNING),)),
        now=NOW + 100,
        pod_ips=("10.0.0.2", "fd00::2"),
        host_ips=("1.2.3.4",),
    )
    assert pod_status(later) == first


@pytest.mark.parametrize(
    ("code", "want"),
    [
        (42, {"status": "True", "reason": "RestartAllContainersStarted"}),
        (1, {"status": "False", "reason": "PodFailed"}),
        (0, {"status": "False", "reason": "PodCompleted"}),
    ],
)
def test_whether_all_restart_is_a_condition(code: int, want: dict[str, str]) -> None:
    the_pod = pod("Never", **RESTART_ALL)
    status = pod_status(known(the_pod, state("web", State.EXITED, exit_code=code)))
    found = next(each for each in status["conditions"] if each["type"] == "AllContainersRestarting")
    assert found.items() >= want.items()


def test_what_was_removed_to_be_restarted_waits() -> None:
    """Also where it ended for good: it is what the phase goes by, and stays until the container runs again."""
    the_pod = pod("Never", **RESTART_ALL)
    the_pod["status"] = pod_status(known(the_pod, state("web", State.EXITED, exit_code=42)))
    for _ in range(2):
        status = pod_status(known(the_pod, waiting={"web": RESTARTING}))
        found = status["containerStatuses"][0]
        assert found["state"]["waiting"]["reason"] == "RestartingAllContainers"
        assert found["lastState"]["terminated"]["exitCode"] == 137
        assert status["phase"] == "Running"
        the_pod["status"] = status
