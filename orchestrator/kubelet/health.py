"""What the probes have found out about one container so far: whether it has started, is ready, is alive. Pure.

A container without a probe of a kind passes it; with one it fails startup and readiness until they passed, and is alive
until liveness failed. Source: Kubernetes docs, "Pod lifecycle", container probes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from orchestrator.kubelet.podspec import Container

ProbeKind = Literal["startup", "liveness", "readiness"]
FIELDS: dict[ProbeKind, str] = {
    "startup": "startupProbe",
    "liveness": "livenessProbe",
    "readiness": "readinessProbe",
}


class Health(Struct, frozen=True):
    """None where a probe has no result yet."""

    startup: bool | None = None
    liveness: bool | None = None
    readiness: bool | None = None


NOTHING_KNOWN = Health()


def is_started(container: Container, health: Health) -> bool:
    return health.startup is True if container.get("startupProbe") else True


def is_ready(container: Container, health: Health) -> bool:
    if not is_started(container, health):
        return False
    return health.readiness is True if container.get("readinessProbe") else True


def failed_probe(health: Health) -> ProbeKind | None:
    """The probe for which the container must be killed."""
    if health.startup is False:
        return "startup"
    return "liveness" if health.liveness is False else None


def of(health: Mapping[str, Health], container_id: str) -> Health:
    return health.get(container_id, NOTHING_KNOWN)
