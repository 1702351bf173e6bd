"""Warnings about pods: what is valid and still likely not meant. They become `Warning` headers of the answer.

Source: kube-apiserver's warnings for pods and pod templates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.api import meta
from orchestrator.api.kinds import formats, podspec
from orchestrator.api.kinds.scheduling_faults import PREFERRED, REQUIRED
from orchestrator.api.meta import Object

Json = Mapping[str, Any]

NULL_SELECTOR = "a null labelSelector results in matching no pod"
DEPRECATED_NODE_LABELS = {
    "beta.kubernetes.io/arch": 'use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'use "topology.kubernetes.io/zone" instead',
}


def of_pod(pod: Object) -> list[str]:
    warnings = list(_spec(pod.get("spec") or {}, "spec"))
    if complaints := formats.dns_label(meta.name(pod)):
        why = "this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended"
        warnings.insert(0, f"metadata.name: {why}: [{' '.join(complaints)}]")
    return warnings


def of_template(obj: Object) -> list[str]:
    """Of a workload's `spec.template`."""
    template = (obj.get("spec") or {}).get("template") or {}
    return list(_spec(template.get("spec") or {}, "spec.template.spec"))


def of_changed_template(new: Object, old: Object) -> list[str]:
    return of_template(new) if meta.generation(new) != meta.generation(old) else []


def of_changed_job_template(new: Object, old: Object) -> list[str]:
    return of_job_template(new) if meta.generation(new) != meta.generation(old) else []


def of_changed_pod(new: Object, old: Object) -> list[str]:
    """Nobody reads them: pods are changed by programs, and often."""
    return []


def of_job_template(obj: Object) -> list[str]:
    """Of a CronJob."""
    template = (((obj.get("spec") or {}).get("jobTemplate") or {}).get("spec") or {}).get("template") or {}
    return list(_spec(template.get("spec") or {}, "spec.jobTemplate.spec.template.spec"))


def _spec(spec: Json, path: str) -> Iterator[str]:
    for key in spec.get("nodeSelector") or ():
        if key in DEPRECATED_NODE_LABELS:
            yield f"{path}.nodeSelector[{key}]: deprecated since v1.14; {DEPRECATED_NODE_LABELS[key]}"
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        if constraint.get("labelSelector") is None:
            yield f"{path}.topologySpreadConstraints[{index}].labelSelector: {NULL_SELECTOR}"
    yield from _affinity(spec.get("affinity") or {}, f"{path}.affinity")
    for kind in podspec.CONTAINER_LISTS:
        for index, container in enumerate(spec.get(kind) or ()):
            yield from _container(container, f"{path}.{kind}[{index}]")


def _affinity(affinity: Json, path: str) -> Iterator[str]:
    for kind in ("podAffinity", "podAntiAffinity"):
        pods = affinity.get(kind) or {}
        for index, term in enumerate(pods.get(REQUIRED) or ()):
            if term.get("labelSelector") is None:
                yield f"{path}.{kind}.{REQUIRED}[{index}].labelSelector: {NULL_SELECTOR}"
        for index, weighted in enumerate(pods.get(PREFERRED) or ()):
            if (weighted.get("podAffinityTerm") or {}).get("labelSelector") is None:
                yield f"{path}.{kind}.{PREFERRED}[{index}].podAffinityTerm.labelSelector: {NULL_SELECTOR}"


def _container(container: Json, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, variable in enumerate(container.get("env") or ()):
        name = variable.get("name", "")
        if name in seen:
            why = f'hides previous definition of "{name}", which may be dropped when using apply'
            yield f"{path}.env[{index}]: {why}"
        seen.add(name)
