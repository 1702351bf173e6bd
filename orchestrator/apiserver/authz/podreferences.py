"""Which other objects a pod's spec names: what its node must be able to read, and nothing else.

A reference is (plural, name), always in the pod's own namespace. Source: core/v1 PodSpec, every field of a type that
ends in KeySelector, SecretReference, LocalObjectReference or VolumeSource.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object

Reference = tuple[str, str]

SECRET_REF_SOURCES = ("cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos")


def references(pod: Object) -> set[Reference]:
    spec = pod.get("spec") or {}
    found = set(_of_volumes(pod, spec.get("volumes") or []))
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            found.update(_of_environment(container))
    found.update(("secrets", entry["name"]) for entry in spec.get("imagePullSecrets") or () if entry.get("name"))
    if spec.get("serviceAccountName"):
        found.add(("serviceaccounts", spec["serviceAccountName"]))
    return found


def _of_volumes(pod: Object, volumes: list[dict[str, Any]]) -> Iterator[Reference]:
    for volume in volumes:
        if "secret" in volume:
            yield "secrets", volume["secret"].get("secretName", "")
        if "configMap" in volume:
            yield "configmaps", volume["configMap"].get("name", "")
        if "persistentVolumeClaim" in volume:
            yield "persistentvolumeclaims", volume["persistentVolumeClaim"].get("claimName", "")
        if "ephemeral" in volume:
            yield "persistentvolumeclaims", f"{meta.name(pod)}-{volume['name']}"
        if "azureFile" in volume:
            yield "secrets", volume["azureFile"].get("secretName", "")
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "secret" in source:
                yield "secrets", source["secret"].get("name", "")
            if "configMap" in source:
                yield "configmaps", source["configMap"].get("name", "")
        for kind in SECRET_REF_SOURCES:
            if secret := ((volume.get(kind) or {}).get("secretRef") or {}).get("name"):
                yield "secrets", secret
        if secret := ((volume.get("csi") or {}).get("nodePublishSecretRef") or {}).get("name"):
            yield "secrets", secret


def _of_environment(container: dict[str, Any]) -> Iterator[Reference]:
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        if "secretKeyRef" in source:
            yield "secrets", source["secretKeyRef"].get("name", "")
        if "configMapKeyRef" in source:
            yield "configmaps", source["configMapKeyRef"].get("name", "")
    for source in container.get("envFrom") or ():
        if "secretRef" in source:
            yield "secrets", source["secretRef"].get("name", "")
        if "configMapRef" in source:
            yield "configmaps", source["configMapRef"].get("name", "")
