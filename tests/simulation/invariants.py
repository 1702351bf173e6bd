"""What must hold at every moment of a simulation, whatever fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from orchestrator.api import meta
from tests.simulation.cluster import Cluster, ready


def at_least_ready(app: str, count: int) -> Callable[[Cluster], None]:
    """Never fewer ready pods than a rolling update promises."""

    def check(cluster: Cluster) -> None:
        found = len(ready(cluster, app))
        assert found >= count, f"{found} ready pods of {app}, {count} promised"

    return check


def at_most_alive(app: str, count: int) -> Callable[[Cluster], None]:
    def check(cluster: Cluster) -> None:
        alive = [
            pod
            for pod in cluster.pods.values()
            if meta.labels(pod).get("app") == app
            and not meta.is_deleting(pod)
            and pod["status"].get("phase") not in ("Failed", "Succeeded")
        ]
        assert len(alive) <= count, f"{len(alive)} pods of {app}, {count} allowed"

    return check


def stable_binding() -> Callable[[Cluster], None]:
    """A pod that was bound to a node is never seen on another."""
    seen: dict[str, str] = {}

    def check(cluster: Cluster) -> None:
        for pod in cluster.pods.values():
            node = pod["spec"].get("nodeName")
            if node:
                assert seen.setdefault(meta.uid(pod), node) == node

    return check


def one_identity(app: str) -> Callable[[Cluster], None]:
    """No two kubelets that can be heard run a pod of one name: what a StatefulSet promises."""

    def check(cluster: Cluster) -> None:
        running = Counter(
            name for kubelet in cluster.kubelets.values() for name in kubelet.running.values() if name.startswith(app)
        )
        twice = [name for name, count in running.items() if count > 1]
        assert not twice, f"more than one pod runs as {twice}"

    return check
