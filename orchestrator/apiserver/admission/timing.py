"""How long admission took, by plugin and by step, under upstream's names. Source: apiserver admission/metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.api.histogram import Histogram
from orchestrator.apiserver.metrics import family

BUCKETS_S = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5)
WEBHOOK_BUCKETS_S = (*BUCKETS_S, 10.0, 25.0)
# Plugins whose class is not called as upstream calls them.
NAMES = {
    "ServiceAccountAdmission": "ServiceAccount",
    "MutatingPolicies": "MutatingAdmissionPolicy",
    "MutatingWebhooks": "MutatingAdmissionWebhook",
    "ValidatingPolicies": "ValidatingAdmissionPolicy",
    "ValidatingWebhooks": "ValidatingAdmissionWebhook",
}
Step = tuple[str, str, bool]  # admit or validate, operation, whether it was refused
Checked = tuple[str, str, str, str]  # action, kind of error, policy, binding
CHECK_BUCKETS_S = (0.0000005, 0.001, 0.01, 0.1, 1.0)
_PREFIX = "apiserver_admission_"
_CHECK = "apiserver_validating_admission_policy_check_"


class Timing:
    def __init__(self) -> None:
        self._steps: dict[Step, Histogram] = {}
        self._plugins: dict[tuple[str, Step], Histogram] = {}
        self._webhooks: dict[tuple[str, Step], Histogram] = {}
        self._checks: dict[Checked, Histogram] = {}

    def step(self, step: Step) -> Histogram:
        return self._steps.setdefault(step, Histogram(BUCKETS_S))

    def plugin(self, plugin: object, step: Step) -> Histogram:
        return self._plugins.setdefault((type(plugin).__name__, step), Histogram(BUCKETS_S))

    def webhook(self, name: str, step: Step) -> Histogram:
        return self._webhooks.setdefault((name, step), Histogram(WEBHOOK_BUCKETS_S))

    def check(self, checked: Checked) -> Histogram:
        """Of a ValidatingAdmissionPolicy: what did not hold, or could not be evaluated."""
        return self._checks.setdefault(checked, Histogram(CHECK_BUCKETS_S))

    def lines(self) -> Iterator[str]:
        name = f"{_PREFIX}step_admission_duration_seconds"
        yield from family(name, "histogram", "How long the steps of admission took.", ())
        for step, took in sorted((one for one in self._steps.items() if not one[1].is_empty), key=_key):
            yield from took.lines(name, _labels(step))
        name = f"{_PREFIX}controller_admission_duration_seconds"
        yield from family(name, "histogram", "How long each plugin of admission took.", ())
        for (plugin, step), took in sorted((one for one in self._plugins.items() if not one[1].is_empty), key=_key):
            yield from took.lines(name, f'name="{NAMES.get(plugin, plugin)}",{_labels(step)}')
        name = f"{_PREFIX}webhook_admission_duration_seconds"
        yield from family(name, "histogram", "How long each webhook took.", ())
        for (webhook, step), took in sorted(self._webhooks.items(), key=_key):
            yield from took.lines(name, f'name="{webhook}",{_labels(step)}')
        if not self._checks:
            return
        yield from family(f"{_CHECK}duration_seconds", "histogram", "How long a check of a policy took.", ())
        for checked, took in sorted(self._checks.items(), key=_key):
            yield from took.lines(f"{_CHECK}duration_seconds", _checked_labels(checked))
        counts = [(_checked_labels(checked), took.count) for checked, took in sorted(self._checks.items(), key=_key)]
        yield from family(f"{_CHECK}total", "counter", "Checks of a policy that did not hold.", counts)


def _key(one: tuple[Any, Histogram]) -> Any:
    return one[0]


def _labels(step: Step) -> str:
    kind, operation, is_refused = step
    return f'operation="{operation}",rejected="{str(is_refused).lower()}",type="{kind}"'


def _checked_labels(checked: Checked) -> str:
    names = ("enforcement_action", "error_type", "policy", "policy_binding")
    return ",".join(f'{name}="{value}"' for name, value in zip(names, checked, strict=True))
