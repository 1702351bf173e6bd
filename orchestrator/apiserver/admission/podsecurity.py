"""PodSecurity: a namespace's labels say which Pod Security Standard its pods keep.

`pod-security.kubernetes.io/enforce` refuses pods, `warn` answers with a warning (for workloads with a pod template
too), `audit` logs; each level is privileged, baseline or restricted. Raising `enforce` warns of pods already there.
Deviation: the `-version` labels are checked, but the checks are always those of this version.
Source: Kubernetes docs, "Pod Security Admission"; wording of kube-apiserver.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import faults
from orchestrator.api.meta import Object
from orchestrator.api.resources import NAMESPACES, PODS
from orchestrator.api.status import invalid
from orchestrator.apiserver.admission import podsecurity_baseline, podsecurity_restricted
from orchestrator.apiserver.admission.chain import name_of, refuse
from orchestrator.apiserver.admission.podsecurity_view import Finding, Seen
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes

PREFIX = "pod-security.kubernetes.io/"
PRIVILEGED, BASELINE, RESTRICTED = LEVELS = ("privileged", "baseline", "restricted")
MODES = ("enforce", "audit", "warn")
LATEST = "latest"
EXISTING_MAX = 3000  # pods that are looked at when a namespace's level is raised
_VERSION = re.compile(r"v1\.\d{1,5}|latest")
TEMPLATES = (
    "deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps", "replicationcontrollers",
    "jobs.batch", "cronjobs.batch", "podtemplates",
)  # fmt: skip

log = logging.getLogger(__name__)


class PodSecurity:
    operations = ("CREATE", "UPDATE")
    resources = ("pods", "pods/ephemeralcontainers", "namespaces", *TEMPLATES)

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.object
        if obj is None:
            return
        if attributes.resource == "namespaces":
            self._namespace(attributes, obj)
            return
        namespace = self._lookup.get(NAMESPACES, "", attributes.namespace)
        labels = meta.labels(namespace or {})
        if not any(key.startswith(PREFIX) for key in labels):
            return
        if attributes.resource == "pods":
            if attributes.operation == "CREATE" or is_significant(obj, attributes.old_object or {}):
                self._pod(attributes, obj, labels)
        elif (template := template_of(attributes.resource, obj)) is not None:
            _warn(attributes, Seen.of(template), labels)

    def _pod(self, attributes: Attributes, pod: Object, labels: Mapping[str, str]) -> None:
        seen = Seen.of(pod)
        found = findings(seen, level(labels, "enforce"))
        if found:
            raise refuse(attributes, f'violates PodSecurity "{shown(labels, "enforce")}": {_joined(found)}')
        _warn(attributes, seen, labels)

    def _namespace(self, attributes: Attributes, namespace: Object) -> None:
        labels, before = meta.labels(namespace), meta.labels(attributes.old_object or {})
        causes = label_faults(labels)
        changed = any(labels.get(key) != before.get(key) for key in {*labels, *before} if key.startswith(PREFIX))
        if causes and (attributes.operation == "CREATE" or changed):
            raise invalid("", "Namespace", meta.name(namespace), causes)
        wanted = level(labels, "enforce")
        if attributes.operation == "UPDATE" and LEVELS.index(wanted) > LEVELS.index(level(before, "enforce")):
            attributes.warnings += self._existing(meta.name(namespace), wanted, shown(labels, "enforce"))

    def _existing(self, namespace: str, wanted: str, label: str) -> list[str]:
        """Pods that are there already stay; the one who raises the level is told of them."""
        by_reason: dict[str, list[str]] = {}
        for number, pod in enumerate(self._lookup.list(PODS, namespace)):
            if number == EXISTING_MAX:
                break
            if found := findings(Seen.of(pod), wanted):
                by_reason.setdefault(", ".join(one.reason for one in found), []).append(meta.name(pod))
        if not by_reason:
            return []
        head = f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{label}"'
        return [head, *sorted(f"{_pods(names)}: {reason}" for reason, names in by_reason.items())]


def findings(seen: Seen, wanted: str) -> list[Finding]:
    """What keeps a pod from a level, baseline checks first."""
    if wanted == PRIVILEGED:
        return []
    checks = dict(podsecurity_baseline.CHECKS)
    if wanted == RESTRICTED:
        kept = {key: check for key, check in checks.items() if key not in podsecurity_restricted.REPLACED}
        checks = kept | podsecurity_restricted.CHECKS
    return [found for check in checks.values() if (found := check(seen)) is not None]


def level(labels: Mapping[str, str], mode: str) -> str:
    """The level of a mode. A label that cannot be read enforces the strictest, and warns of nothing."""
    text = labels.get(f"{PREFIX}{mode}", PRIVILEGED)
    if text in LEVELS:
        return text
    return RESTRICTED if mode == "enforce" else PRIVILEGED


def shown(labels: Mapping[str, str], mode: str) -> str:
    return f"{level(labels, mode)}:{labels.get(f'{PREFIX}{mode}-version', LATEST)}"


def label_faults(labels: Mapping[str, str]) -> list[Any]:
    found = []
    for mode in MODES:
        key = f"{PREFIX}{mode}"
        if key in labels and labels[key] not in LEVELS:
            why = "must be one of privileged, baseline, restricted"
            found.append(faults.invalid(f"metadata.labels[{key}]", labels[key], why))
        version = f"{key}-version"
        if version in labels and not _VERSION.fullmatch(labels[version]):
            why = 'must be "latest" or "v1.x"'
            found.append(faults.invalid(f"metadata.labels[{version}]", labels[version], why))
    return found


def is_significant(new: Object, old: Object) -> bool:
    """Of an update only a new image, or a new (ephemeral) container, can make a pod worse."""

    def images(pod: Object) -> dict[str, str]:
        return {one["name"]: one.get("image", "") for one in Seen.of(pod).containers}

    return images(new) != images(old)


def template_of(plural: str, obj: Object) -> Object | None:
    if plural == "podtemplates":
        return obj.get("template")
    spec = obj.get("spec") or {}
    if plural == "cronjobs":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    return spec.get("template")


def _warn(attributes: Attributes, seen: Seen, labels: Mapping[str, str]) -> None:
    if found := findings(seen, level(labels, "warn")):
        attributes.warnings.append(f'would violate PodSecurity "{shown(labels, "warn")}": {_joined(found)}')
    if found := findings(seen, level(labels, "audit")):
        log.info(
            "pod would violate the audited level",
            extra={
                "namespace": attributes.namespace,
                "object": name_of(attributes),
                "level": shown(labels, "audit"),
                "cause": _joined(found),
            },
        )


def _joined(found: list[Finding]) -> str:
    return ", ".join(str(one) for one in found)


def _pods(names: list[str]) -> str:
    first, others = min(names), len(names) - 1
    if not others:
        return first
    return f"{first} (and {others} other {'pod' if others == 1 else 'pods'})"
