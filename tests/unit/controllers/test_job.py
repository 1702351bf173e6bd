from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object, format_time
from orchestrator.controllers import indexes, job_plan, job_policies
from orchestrator.controllers.job_plan import FINALIZER, Observed, Plan, plan
from orchestrator.controllers.ttlafterfinished import expires_at
from tests.unit.controllers.objects import NOW, pod


def job(status: dict[str, Any] | None = None, **spec: Any) -> Object:
    return {
        "kind": "Job",
        "metadata": {"name": "sum", "namespace": "shop", "uid": "j"},
        "spec": {"parallelism": 2, "completions": 3, "backoffLimit": 2, **spec},
        "status": {"startTime": format_time(NOW - 60), **(status or {})},
    }


def worker(
    name: str, phase: str = "Running", *, held: bool = True, index: int = -1, failures: int = 0, **more: Any
) -> Object:
    made = pod(name, phase=phase, ready=phase == "Running", **more)
    if held:
        made["metadata"]["finalizers"] = [FINALIZER]
    if index >= 0:
        made["metadata"]["annotations"] = {job_policies.INDEX: str(index), job_policies.INDEX_FAILURES: str(failures)}
    return made


def planned(seen: Object, *owned: Object) -> Plan:
    return plan(Observed(seen, tuple(owned), NOW))


def reason(found: Plan, kind: str) -> str:
    condition = conditions.find(found.status.get("conditions"), kind)
    return condition["reason"] if condition and condition["status"] == "True" else ""


def names(objects: list[Object]) -> list[str]:
    return [meta.name(each) for each in objects]


def test_as_many_run_as_may_and_are_needed() -> None:
    assert len(planned(job()).create) == 2
    assert len(planned(job({"succeeded": 2})).create) == 1
    assert len(planned(job(parallelism=5)).create) == 3
    assert names(planned(job(parallelism=1), worker("a"), worker("b", ready_for_s=9)).dismiss) == ["b"]


def test_an_ended_pod_is_listed_then_let_go_then_counted() -> None:
    first = planned(job(), worker("a", "Succeeded"))
    assert first.status["uncountedTerminatedPods"] == {"succeeded": ["uid-a"]}
    assert names(first.uncount) == ["a"]
    assert "succeeded" not in first.status
    again = planned(job(first.status), worker("a", "Succeeded"))
    assert again.status == first.status, "repeating a step changes nothing"
    counted = planned(job(first.status), worker("a", "Succeeded", held=False))
    assert (counted.status["succeeded"], counted.status["uncountedTerminatedPods"]) == (1, {})
    assert planned(job(first.status)).status["succeeded"] == 1, "also if the pod is gone by then"


def test_the_end_comes_when_all_is_counted_and_nothing_runs() -> None:
    seen = job({"succeeded": 3})
    running = planned(seen, worker("d"))
    assert reason(running, "SuccessCriteriaMet") == "CompletionsReached"
    assert reason(running, "Complete") == ""
    assert names(running.delete) == ["d"]
    done = planned(job(running.status))
    assert reason(done, "Complete") == "CompletionsReached"
    assert done.status["completionTime"]
    assert planned(job(done.status)).create == []


@pytest.mark.parametrize(
    ("seen", "owned", "why"),
    [
        pytest.param(job({"failed": 2}), [worker("x", "Failed")], "BackoffLimitExceeded", id="too-many-failures"),
        pytest.param(job({"failed": 1}), [worker("x", "Failed")], "", id="one-more-try"),
        pytest.param(job(activeDeadlineSeconds=30), [], "DeadlineExceeded", id="too-late"),
        pytest.param(
            job(podFailurePolicy={"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}),
            [worker("x", "Failed")],
            "PodFailurePolicy",
            id="a-code-that-fails-the-job",
        ),
    ],
)
def test_failure(seen: Object, owned: list[Object], why: str) -> None:
    for each in owned:
        each["status"]["containerStatuses"] = [{"name": "c", "state": {"terminated": {"exitCode": 42}}}]
    assert reason(planned(seen, *owned), "FailureTarget") == why


def test_an_ignored_failure_is_let_go_and_not_counted() -> None:
    rules = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    evicted = worker("x", "Failed")
    evicted["status"]["conditions"].append({"type": "DisruptionTarget", "status": "True"})
    found = planned(job(podFailurePolicy={"rules": rules}), evicted)
    assert names(found.uncount) == ["x"]
    assert found.status["uncountedTerminatedPods"] == {}


def test_a_suspended_job_has_no_pods_and_starts_over() -> None:
    found = planned(job(suspend=True), worker("a"))
    assert names(found.dismiss) == ["a"]
    assert found.create == []
    assert reason(found, "Suspended") == "JobSuspended"
    assert "startTime" not in found.status
    resumed = planned(job({**found.status, "startTime": None}))
    assert reason(resumed, "Suspended") == ""
    assert resumed.status["startTime"] == format_time(NOW)


def test_indexes_are_given_once_each_and_counted_by_index() -> None:
    seen = job(completionMode="Indexed", completions=4, parallelism=3)
    assert planned(seen, worker("b", index=1)).create == [(0, 0), (2, 0)]
    found = planned(seen, worker("a", "Succeeded", index=0), worker("b", "Succeeded", index=2), worker("c", index=1))
    assert (found.status["completedIndexes"], found.status["succeeded"]) == ("0,2", 2)
    assert found.create == [(3, 0)]
    assert names(planned(seen, worker("a", index=1, age_s=9), worker("b", index=1, age_s=99)).dismiss) == ["a"]


def test_an_index_fails_by_itself() -> None:
    seen = job(completionMode="Indexed", completions=2, parallelism=2, backoffLimitPerIndex=1, backoffLimit=100)
    first = planned(seen, worker("a", "Failed", index=0), worker("b", "Succeeded", index=1))
    assert first.create == [(0, 1)]
    second = planned(seen, worker("a", "Failed", index=0, failures=1), worker("b", "Succeeded", index=1))
    assert second.status["failedIndexes"] == "0"
    assert reason(second, "FailureTarget") == "FailedIndexes"


def test_a_success_rule_ends_the_job_early() -> None:
    policy = {"rules": [{"succeededIndexes": "0", "succeededCount": 1}]}
    seen = job(completionMode="Indexed", completions=3, successPolicy=policy)
    found = planned(seen, worker("a", "Succeeded", index=0), worker("b", index=1))
    assert reason(found, "SuccessCriteriaMet") == "SuccessPolicy"
    assert names(found.delete) == ["b"]


def test_a_work_queue_is_done_when_one_succeeded_and_the_rest_ended() -> None:
    seen = job({"succeeded": 1}, completions=None)
    assert reason(planned(seen, worker("a")), "SuccessCriteriaMet") == ""
    assert reason(planned(seen), "Complete") == "CompletionsReached"


@given(st.sets(st.integers(0, 60)))
def test_index_sets_read_as_they_are_written(numbers: set[int]) -> None:
    assert indexes.parse(indexes.show(numbers)) == numbers


def test_index_sets_are_short() -> None:
    assert indexes.show([5, 1, 2, 3, 8, 9]) == "1-3,5,8,9"
    assert job_plan.is_finished(job({"conditions": [{"type": "Failed", "status": "True"}]}))


def test_ttl_counts_from_the_end() -> None:
    done = {"type": "Complete", "status": "True", "lastTransitionTime": format_time(NOW)}
    assert expires_at(job({"conditions": [done]}, ttlSecondsAfterFinished=30)) == NOW + 30
    assert expires_at(job(ttlSecondsAfterFinished=30)) is None
