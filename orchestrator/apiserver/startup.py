"""What a server has to do before it serves, step by step, under upstream's names: each is a check of its health.

Upstream's hooks run beside its first answers; ours are done before the server listens, so that a check tells of a step
that was forgotten or, where it left a task behind that has to go on, of one that has died since.
Source: k8s.io/apiserver server/hooks; kube-apiserver's post-start hooks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

CACHES = (
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/storage-object-count-tracker-hook",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/storage-readiness",
)
FAIRNESS = ("poststarthook/priority-and-fairness-config-consumer", "poststarthook/priority-and-fairness-filter")
CUSTOM = ("poststarthook/start-apiextensions-controllers", "poststarthook/crd-informer-synced")
OBJECTS = (
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
)
ROLES = ("poststarthook/rbac/bootstrap-roles",)
LEVELS = ("poststarthook/priority-and-fairness-config-producer",)
REPAIR = ("poststarthook/start-service-ip-repair-controllers",)
AGGREGATION = (
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-discovery-controller",
)
REGISTRATION = ("poststarthook/kube-apiserver-autoregistration",)
REGISTERED = ("autoregister-completion",)
DOCUMENTS = ("poststarthook/apiservice-openapi-controller", "poststarthook/apiservice-openapiv3-controller")
STEPS = (
    *CACHES, *FAIRNESS, *CUSTOM, *OBJECTS, *ROLES, *LEVELS, *REPAIR, *AGGREGATION, *REGISTRATION, *REGISTERED,
    *DOCUMENTS,
)  # fmt: skip


Fault = Callable[[], str | None]  # None while all is well


class StartUp:
    def __init__(self) -> None:
        self._done: dict[str, Fault | None] = {}

    def did(self, steps: tuple[str, ...], fault: Fault | None = None) -> None:
        """`fault`, where there is one, is asked from now on."""
        self._done |= dict.fromkeys(steps, fault)

    def checks(self) -> Mapping[str, Fault]:
        return {step: partial(self._why_not, step) for step in STEPS}

    def _why_not(self, step: str) -> str | None:
        if step not in self._done:
            return "not finished"
        fault = self._done[step]
        return fault() if fault is not None else None


def goes_on(task: asyncio.Task[None]) -> Fault:
    """The fault of a task that has to run as long as the server."""

    def fault() -> str | None:
        if not task.done():
            return None
        return "cancelled" if task.cancelled() else f"ended: {task.exception()!r}"

    return fault
