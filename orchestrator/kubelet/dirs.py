"""Where things lie on the node: one place that knows the layout of the kubelet's root and of the pod logs.

<root>/pods/<uid>/volumes/kubernetes.io~<plugin>/<name>      a volume
<root>/pods/<uid>/containers/<name>/<attempt>.termination    a container's termination message
<root>/pods/<uid>/{etc-hosts,resolv.conf}                    what every container of the pod has in /etc
<root>/pods/<uid>/network.json                               the sandbox's addresses
<root>/pods/<uid>/resources.json                             what is allocated to its containers, and in force
<logs>/<namespace>_<name>_<uid>/<container>/<attempt>.log    CRI format
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.meta import Object


class PodDirs(Struct, frozen=True):
    """The folders of one pod."""

    root: Path
    logs: Path

    def volume(self, plugin: str, name: str) -> Path:
        return self.root / "volumes" / f"kubernetes.io~{plugin}" / name

    def container(self, name: str) -> Path:
        return self.root / "containers" / name

    def termination_log(self, name: str, attempt: int) -> Path:
        return self.container(name) / f"{attempt}.termination"

    @property
    def hosts(self) -> Path:
        return self.root / "etc-hosts"

    @property
    def resolv_conf(self) -> Path:
        return self.root / "resolv.conf"

    @property
    def network(self) -> Path:
        return self.root / "network.json"

    @property
    def resources(self) -> Path:
        return self.root / "resources.json"

    def log(self, container: str, attempt: int) -> Path:
        return self.logs / container / f"{attempt}.log"


class Dirs(Struct, frozen=True):
    root: Path
    logs: Path

    @property
    def pods(self) -> Path:
        return self.root / "pods"

    def pod(self, uid: str, namespace: str, name: str) -> PodDirs:
        return PodDirs(self.pods / uid, self.logs / f"{namespace}_{name}_{uid}")

    def of(self, pod: Object) -> PodDirs:
        return self.pod(meta.uid(pod), meta.namespace(pod), meta.name(pod))
