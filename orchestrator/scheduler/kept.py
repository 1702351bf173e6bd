"""What the scheduler keeps of each object that it follows: the parsed form and what names it, not the object.

A Pod of 2 KB on the wire is 10 KB as a dictionary; 50,000 of them kept whole would be most of the scheduler's memory.
A kept Pod without a node still has its condition and nominated node, for reports are written as changes of them.
"""

from __future__ import annotations

from typing import Any

from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object
from orchestrator.scheduler.node import Node, parse_node
from orchestrator.scheduler.pod import Demands, Pod, is_terminal, parse_pod

PARSED = "parsed"
TERMINAL = "terminal"


class KeptPods:
    """Cuts down Pods; those of one template share what they ask."""

    def __init__(self) -> None:
        self._demands = Demands()

    def keep(self, obj: Object) -> Object:
        pod = parse_pod(obj, self._demands)
        status: dict[str, Any] = obj.get("status") or {}
        kept = _named(obj) | {PARSED: pod, TERMINAL: is_terminal(obj)}
        if not pod.node_name:
            scheduled = conditions.find(status.get("conditions"), "PodScheduled")
            kept["status"] = {"conditions": [scheduled] if scheduled else []}
            if pod.nominated_node:
                kept["status"]["nominatedNodeName"] = pod.nominated_node
        return kept


def keep_node(obj: Object) -> Object:
    return _named(obj) | {PARSED: parse_node(obj)}


def keep_selector(obj: Object) -> Object:
    """Of a workload: which Pods are its own."""
    return _named(obj) | {"spec": {"selector": (obj.get("spec") or {}).get("selector")}}


def pod_of(kept: Object) -> Pod:
    pod: Pod = kept[PARSED]
    return pod


def node_of(kept: Object) -> Node:
    node: Node = kept[PARSED]
    return node


def _named(obj: Object) -> Object:
    metadata = meta.metadata(obj)
    fields = ("name", "namespace", "uid", "resourceVersion")
    return {
        "apiVersion": obj.get("apiVersion"),
        "kind": obj.get("kind"),
        "metadata": {field: metadata[field] for field in fields if field in metadata},
    }
