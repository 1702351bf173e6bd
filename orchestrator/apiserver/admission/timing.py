"""How long admission took, by plugin and by step, under upstream's names. Source: apiserver admission/metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.apiserver.histogram import Histogram
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
_PREFIX = "apiserver_admission_"


class Timing:
    def __init__(self) -> None:
        self._steps: dict[Step, Histogram] = {}
        self._plugins: dict[tuple[str, Step], Histogram] = {}
        self._webhooks: dict[tuple[str, Step], Histogram] = {}

    def step(self, step: Step) -> Histogram:
        return self._steps.setdefault(step, Histogram(BUCKETS_S))

    def plugin(self, plugin: object, step: Step) -> Histogram:
        return self._plugins.setdefault((type(plugin).__name__, step), Histogram(BUCKETS_S))

    def webhook(self, name: str, step: Step) -> Histogram:
        return self._webhooks.setdefault((name, step), Histogram(WEBHOOK_BUCKETS_S))

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


def _key(one: tuple[Any, Histogram]) -> Any:
    return one[0]


def _labels(step: Step) -> str:
    kind, operation, is_refused = step
    return f'operation="{operation}",rejected="{str(is_refused).lower()}",type="{kind}"'
