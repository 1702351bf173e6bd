"""A pod as the Pod Security Standards look at it, and how they speak of what they find.

Containers are seen in the order init, main, ephemeral. A finding is a reason, with a detail in brackets.
Source: Kubernetes docs, "Pod Security Standards"; wording of kube-apiserver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.meta import Object

Container = dict[str, Any]


class Finding(Struct, frozen=True):
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})"


class Seen(Struct, frozen=True):
    """A pod, or the template of one."""

    spec: dict[str, Any]
    annotations: dict[str, str]
    containers: tuple[Container, ...]

    @classmethod
    def of(cls, pod: Object) -> Seen:
        spec = pod.get("spec") or {}
        kinds = ("initContainers", "containers", "ephemeralContainers")
        return cls(spec, meta.annotations(pod), tuple(one for kind in kinds for one in spec.get(kind) or ()))

    @property
    def security(self) -> dict[str, Any]:
        return self.spec.get("securityContext") or {}

    @property
    def is_windows(self) -> bool:
        return bool((self.spec.get("os") or {}).get("name") == "windows")

    @property
    def has_own_users(self) -> bool:
        """With a user namespace, root in the container is nobody outside."""
        return self.spec.get("hostUsers") is False

    def names(self, test: Callable[[Container], bool]) -> list[str]:
        return [container["name"] for container in self.containers if test(container)]


Check = Callable[[Seen], Finding | None]


def security_of(container: Container) -> dict[str, Any]:
    return container.get("securityContext") or {}


def quoted(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def several(one: str, many: str, count: int) -> str:
    return one if count == 1 else many


def containers_are(names: list[str]) -> str:
    """`container "a"`, `containers "a", "b"`."""
    return f"{several('container', 'containers', len(names))} {quoted(names)}"


def setters(pod_sets: bool, names: list[str]) -> str:
    """Who sets something: the pod, containers, or both."""
    return " and ".join((["pod"] if pod_sets else []) + ([containers_are(names)] if names else []))
