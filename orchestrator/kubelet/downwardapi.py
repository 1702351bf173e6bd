"""The downward API: fields of the pod and resources of its containers, as env variables and files show them. Pure.

Maps (labels, annotations) are shown one `key="value"` a line, sorted, with the value quoted. A resource without a limit
shows the node's allocatable amount. Errors: FieldError names the path.
Source: Kubernetes docs, "Downward API"; kubelet's fieldpath and resource helpers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

import orjson
from msgspec import Struct

from orchestrator.api import meta, quantity
from orchestrator.api.meta import Object
from orchestrator.kubelet import podspec

_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['(.*)'\]$")


class FieldError(Exception):
    """A field or resource that the downward API does not know."""


class NodeFacts(Struct, frozen=True):
    """What a pod can learn of its node; addresses are the pod's where it has its own."""

    node_name: str
    host_ips: tuple[str, ...]
    allocatable: Mapping[str, str]


def field(pod: Object, path: str, facts: NodeFacts, pod_ips: tuple[str, ...]) -> str:
    """The value of a fieldRef."""
    if found := _SUBSCRIPT.match(path):
        return str((meta.metadata(pod).get(found.group(1)) or {}).get(found.group(2), ""))
    described = podspec.spec(pod)
    match path:
        case "metadata.name":
            return meta.name(pod)
        case "metadata.namespace":
            return meta.namespace(pod)
        case "metadata.uid":
            return meta.uid(pod)
        case "metadata.labels":
            return _lines(meta.labels(pod))
        case "metadata.annotations":
            return _lines(meta.annotations(pod))
        case "spec.nodeName":
            return facts.node_name
        case "spec.serviceAccountName":
            return str(described.get("serviceAccountName") or "")
        case "status.hostIP":
            return facts.host_ips[0] if facts.host_ips else ""
        case "status.hostIPs":
            return ",".join(facts.host_ips)
        case "status.podIP":
            return pod_ips[0] if pod_ips else ""
        case "status.podIPs":
            return ",".join(pod_ips)
    raise FieldError(f"unsupported fieldPath: {path}")


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={orjson.dumps(value).decode()}" for key, value in sorted(values.items()))


def resource(pod: Object, reference: Mapping[str, Any], container_name: str, facts: NodeFacts) -> str:
    """The value of a resourceFieldRef: the amount divided by the divisor, rounded up."""
    name = reference.get("containerName") or container_name
    found = podspec.find(pod, name)
    if found is None:
        raise FieldError(f"container {name} not found")
    source, _, resource_name = str(reference.get("resource", "")).partition(".")
    if source not in ("limits", "requests") or not resource_name:
        raise FieldError(f"unsupported container resource : {reference.get('resource')}")
    declared: Mapping[str, Any] = (found[1].get("resources") or {}).get(source) or {}
    if source == "requests" and resource_name not in declared:
        declared = podspec.requests(found[1])
    amount = quantity.parse(declared[resource_name]) if resource_name in declared else Decimal(0)
    if source == "limits" and resource_name not in declared:
        amount = quantity.parse(facts.allocatable.get(resource_name, "0"))
    divisor = quantity.parse(reference.get("divisor") or "1") or Decimal(1)
    return str(int((amount / divisor).to_integral_value(ROUND_CEILING)))
