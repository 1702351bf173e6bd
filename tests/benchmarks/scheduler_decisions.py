"""How many Pods the scheduler decides on in a second, without an API server.

`python -m tests.benchmarks.scheduler_decisions [NODES [PODS]]`. Nodes are in 3 zones; Pods are read, queued, decided
and assumed, one after another on one core: plain ones (CPU and memory), ones spread over zones (hard) and hosts (soft),
and ones with preferred anti-affinity on top. Then 50,000 Pods are held, for the memory.
Target with 5,000 nodes: plain 2,000/s or more, spread 1,000/s or more, 300 MB or less.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from random import Random
from typing import Any

from orchestrator.scheduler.configuration import Profile, make_framework
from orchestrator.scheduler.framework import Chosen, Cycle, Framework
from orchestrator.scheduler.kept import KeptPods, pod_of
from orchestrator.scheduler.listers import Listers
from orchestrator.scheduler.node import parse_node
from orchestrator.scheduler.pod import Demands, parse_pod
from orchestrator.scheduler.queue import SchedulingQueue
from orchestrator.scheduler.snapshot import Snapshot

ZONE, HOSTNAME = "topology.kubernetes.io/zone", "kubernetes.io/hostname"


def node(index: int) -> dict[str, Any]:
    name = f"node-{index:05}"
    return {
        "metadata": {"name": name, "labels": {HOSTNAME: name, ZONE: f"zone-{index % 3}", "arch": "amd64"}},
        "status": {"allocatable": {"cpu": "32", "memory": "64Gi", "ephemeral-storage": "100Gi", "pods": "110"}},
    }


def pod(index: int, kind: str) -> dict[str, Any]:
    app = f"app-{index % 10}"
    spec: dict[str, Any] = {
        "containers": [
            {"name": "c", "image": "nginx:1", "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}}}
        ],
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
    }
    selector = {"matchLabels": {"app": app}}
    if kind != "plain":
        spec["topologySpreadConstraints"] = [
            {"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector},
            {"maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector},
        ]
    if kind == "anti-affinity":
        term = {"topologyKey": HOSTNAME, "labelSelector": selector}
        spec["affinity"] = {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]
            }
        }
    return {
        "metadata": {
            "name": f"{kind}-{index}",
            "namespace": "default",
            "uid": f"{kind}-{index}",
            "labels": {"app": app},
        },
        "spec": spec,
    }


def schedule(framework: Framework, snapshot: Snapshot, kind: str, count: int) -> float:
    """Pods a second, from the object to the assumed Pod."""
    demands, listers = Demands(), Listers()
    queue = SchedulingQueue(time.monotonic, lambda *_: False, lambda *_: False)
    objects = [pod(index, kind) for index in range(count)]
    began = time.perf_counter()
    for obj in objects:
        queue.put(parse_pod(obj, demands))
    while (waiting := queue.pop_now()) is not None:
        decision = framework.decide(Cycle(waiting.pod, snapshot, listers))
        assert isinstance(decision, Chosen)
        snapshot.put_pod(waiting.pod.on(decision.node_name))
        queue.done(waiting)
    return count / (time.perf_counter() - began)


def main() -> None:
    node_count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    pod_count = int(sys.argv[2]) if len(sys.argv) > 2 else 5_000
    result: dict[str, Any] = {"nodes": node_count, "pods": pod_count}
    for kind in ("plain", "spread", "anti-affinity"):
        snapshot = Snapshot()
        for index in range(node_count):
            snapshot.put_node(parse_node(node(index)))
        framework = make_framework(Profile(), Random(7))
        result[f"{kind}_pods_per_s"] = round(schedule(framework, snapshot, kind, pod_count))
    kept, held = KeptPods(), []
    for index in range(50_000):
        obj = pod(index, "plain")
        obj["spec"]["nodeName"] = f"node-{index % node_count:05}"
        held.append(kept.keep(obj))
        snapshot.put_pod(pod_of(held[-1]))
    result["peak_mib_with_50000_pods"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(result))


if __name__ == "__main__":
    main()
