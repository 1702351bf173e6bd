"""A container's environment: services, then envFrom, then env, each able to refer to what came before it.

`plan()` says which ConfigMaps and Secrets are needed; `build()` is pure, given them. Keys of envFrom that cannot be
variable names are taken as they are (any printable ASCII without `=`, KEP-4369).
Errors: EnvError in the kubelet's words; the container then waits as CreateContainerConfigError.
Source: API reference, EnvVar, EnvFromSource; kubelet's makeEnvironmentVariables.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.kubelet import downwardapi, expansion
from orchestrator.kubelet.downwardapi import FieldError, NodeFacts
from orchestrator.kubelet.podspec import Container

Kind = Literal["configmap", "secret"]


class EnvError(Exception):
    """The environment cannot be made; the text is what users read."""


class Reference(NamedTuple):
    kind: Kind
    name: str


class Inputs(Struct, frozen=True):
    """`objects` holds what `references()` asked for; what does not exist is not in it."""

    pod: Object
    facts: NodeFacts
    pod_ips: tuple[str, ...]
    services: Mapping[str, str]
    objects: Mapping[Reference, Object]


def references(container: Container) -> list[Reference]:
    found = []
    for source in container.get("envFrom") or ():
        for field, kind in (("configMapRef", "configmap"), ("secretRef", "secret")):
            if field in source:
                found.append(Reference(kind, source[field]["name"]))  # type: ignore[arg-type]
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        for field, kind in (("configMapKeyRef", "configmap"), ("secretKeyRef", "secret")):
            if field in source:
                found.append(Reference(kind, source[field]["name"]))  # type: ignore[arg-type]
    return list(dict.fromkeys(found))


def build(container: Container, inputs: Inputs) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        found |= _from_source(source, inputs)
    made: dict[str, str] = {}
    for variable in container.get("env") or ():
        value = _value(variable, container, inputs, {**inputs.services, **found, **made})
        if value is not None:
            made[variable["name"]] = value
    return {**inputs.services, **found, **made}


def _from_source(source: Mapping[str, Any], inputs: Inputs) -> dict[str, str]:
    kind: Kind = "configmap" if "configMapRef" in source else "secret"
    selector = source.get("configMapRef") or source.get("secretRef") or {}
    data = _data(Reference(kind, selector.get("name", "")), bool(selector.get("optional")), inputs)
    prefix = source.get("prefix") or ""
    return {prefix + key: value for key, value in (data or {}).items()}


def _value(variable: Mapping[str, Any], container: Container, inputs: Inputs, known: Mapping[str, str]) -> str | None:
    source = variable.get("valueFrom")
    if not source:
        return expansion.expand(variable.get("value") or "", known)
    try:
        if "fieldRef" in source:
            return downwardapi.field(inputs.pod, source["fieldRef"]["fieldPath"], inputs.facts, inputs.pod_ips)
        if "resourceFieldRef" in source:
            return downwardapi.resource(inputs.pod, source["resourceFieldRef"], container["name"], inputs.facts)
    except FieldError as error:
        raise EnvError(str(error)) from error
    if "configMapKeyRef" in source:
        return _key(Reference("configmap", source["configMapKeyRef"]["name"]), source["configMapKeyRef"], inputs)
    if "secretKeyRef" in source:
        return _key(Reference("secret", source["secretKeyRef"]["name"]), source["secretKeyRef"], inputs)
    raise EnvError(f"env {variable.get('name')}: unsupported valueFrom {sorted(source)}")


def _key(reference: Reference, selector: Mapping[str, Any], inputs: Inputs) -> str | None:
    optional = bool(selector.get("optional"))
    data = _data(reference, optional, inputs)
    if data is None:
        return None
    if selector["key"] not in data:
        if optional:
            return None
        shown = "ConfigMap" if reference.kind == "configmap" else "Secret"
        raise EnvError(f"couldn't find key {selector['key']} in {shown} {meta.namespace(inputs.pod)}/{reference.name}")
    return data[selector["key"]]


def _data(reference: Reference, optional: bool, inputs: Inputs) -> dict[str, str] | None:
    """The object's data as text, None where it is missing and may be."""
    found = inputs.objects.get(reference)
    if found is None:
        if optional:
            return None
        raise EnvError(f'{reference.kind} "{reference.name}" not found')
    if reference.kind == "configmap":
        return dict(found.get("data") or {})
    decoded = {key: base64.b64decode(value or "") for key, value in (found.get("data") or {}).items()}
    return {key: value.decode(errors="surrogateescape") for key, value in decoded.items()}
