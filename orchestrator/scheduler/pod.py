"""A Pod as the scheduler reads it, in two parts: its demand, which Pods of one template share, and what is its own.

A `Demand` is everything of a spec that decides which nodes fit, parsed once and interned: 10,000 replicas share one,
and what was computed for it (which nodes match its affinity, say) is found again by identity. A `Pod` is small, for
the snapshot holds one for each Pod of the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.podresources import in_force, is_sidecar
from orchestrator.scheduler import resources, terms
from orchestrator.scheduler.terms import (
    NodeSelector,
    PodAffinity,
    PreferredNodeTerm,
    SpreadConstraint,
    Toleration,
)

DEMANDS_MAX = 20_000
DISKS = ("gcePersistentDisk", "awsElasticBlockStore", "rbd", "iscsi")


class HostPort(Struct, frozen=True):
    ip: str
    protocol: str
    port: int

    def conflicts(self, other: HostPort) -> bool:
        if (self.protocol, self.port) != (other.protocol, other.port):
            return False
        return self.ip == other.ip or "0.0.0.0" in (self.ip, other.ip)


class Demand(Struct, frozen=True, eq=False):
    """Compared by identity: two demands of equal content are one object (`Demands`)."""

    requests: tuple[tuple[str, int], ...]
    scored_cpu_millis: int
    scored_memory_bytes: int
    node_selector: NodeSelector
    preferred_nodes: tuple[PreferredNodeTerm, ...]
    tolerations: tuple[Toleration, ...]
    affinity: PodAffinity
    spread: tuple[SpreadConstraint, ...]
    host_ports: tuple[HostPort, ...]
    images: tuple[str, ...]
    can_preempt: bool


class Disk(Struct, frozen=True):
    """A volume that is one disk in the world, named in the Pod itself; `may_share` where all its users only read."""

    identity: tuple[str, ...]
    may_share: bool


class Pod(Struct, frozen=True):
    """`claims` are keys of PersistentVolumeClaims, those of ephemeral volumes included (`ephemeral_claims`)."""

    key: str
    uid: str
    labels: Mapping[str, str]
    demand: Demand
    priority: int = 0
    node_name: str = ""
    nominated_node: str = ""
    scheduler_name: str = "default-scheduler"
    is_terminating: bool = False
    created_s: float = 0.0
    started: str = ""  # status.startTime; text of one format, so it sorts
    owner_kind: str = ""
    owner_name: str = ""
    owner_uid: str = ""
    gates: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    ephemeral_claims: frozenset[str] = frozenset()
    disks: tuple[Disk, ...] = ()

    @property
    def namespace(self) -> str:
        return meta.split_key(self.key)[0]

    @property
    def name(self) -> str:
        return meta.split_key(self.key)[1]

    def on(self, node_name: str) -> Pod:
        return replace(self, node_name=node_name)

    def nominated_to(self, node_name: str) -> Pod:
        return replace(self, nominated_node=node_name)


class Demands(Struct):
    """The interned demands. Bounded: beyond the limit it starts over, and only identity is lost."""

    _known: dict[bytes, Demand] = field(default_factory=dict)
    _labels: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = field(default_factory=dict)

    def labels(self, labels: Mapping[str, str]) -> Mapping[str, str]:
        """Equal labels are one object too."""
        if len(self._labels) >= DEMANDS_MAX:
            self._labels.clear()
        return self._labels.setdefault(tuple(sorted(labels.items())), labels)

    def of(self, obj: Object) -> Demand:
        spec = in_force(obj)
        namespace, labels = meta.namespace(obj), meta.labels(obj)
        key = orjson.dumps(_decisive(spec, namespace, labels))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= DEMANDS_MAX:
                self._known.clear()
            found = self._known[key] = _parse_demand(spec, namespace, labels)
        return found


def _decisive(spec: Mapping[str, Any], namespace: str, labels: Mapping[str, str]) -> list[Any]:
    """What a demand is made of. Volumes are left out: the token volume of every Pod has a name of its own."""
    affinity = spec.get("affinity")
    chooses_pods = affinity and ("podAffinity" in affinity or "podAntiAffinity" in affinity)
    has_label_keys = chooses_pods and "matchLabelKeys" in str(affinity)
    return [
        [
            [one.get("resources"), one.get("image"), one.get("ports"), one.get("restartPolicy")]
            for containers in (spec.get("containers"), spec.get("initContainers"))
            for one in (*(containers or ()), {})  # the empty one keeps the two lists apart
        ],
        spec.get("nodeSelector"),
        affinity,
        namespace if chooses_pods else None,
        dict(labels) if has_label_keys else None,
        spec.get("tolerations"),
        spec.get("topologySpreadConstraints"),
        spec.get("resources"),
        spec.get("overhead"),
        spec.get("hostNetwork"),
        spec.get("preemptionPolicy"),
    ]


def _parse_demand(spec: Mapping[str, Any], namespace: str, labels: Mapping[str, str]) -> Demand:
    requests = resources.pod_requests(spec)
    scored = resources.pod_requests(spec, with_defaults=True)
    return Demand(
        requests=tuple((resource, value) for resource, value in requests.items() if value),
        scored_cpu_millis=scored.get(resources.CPU, 0),
        scored_memory_bytes=scored.get(resources.MEMORY, 0),
        node_selector=terms.pod_node_selector(spec),
        preferred_nodes=terms.preferred_node_terms(spec),
        tolerations=terms.tolerations(spec),
        affinity=terms.pod_affinity(spec, namespace, labels),
        spread=terms.spread_constraints(spec),
        host_ports=_host_ports(spec),
        images=tuple(
            normalized_image(container["image"])
            for kind in ("initContainers", "containers")
            for container in spec.get(kind) or ()
            if container.get("image")
        ),
        can_preempt=spec.get("preemptionPolicy") != "Never",
    )


def _host_ports(spec: Mapping[str, Any]) -> tuple[HostPort, ...]:
    sidecars = filter(is_sidecar, spec.get("initContainers") or ())
    return tuple(
        HostPort(port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"])
        for container in (*(spec.get("containers") or ()), *sidecars)
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def normalized_image(name: str) -> str:
    """With the tag that is meant: nodes report `nginx:latest` for `nginx`."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def parse_pod(obj: Object, demands: Demands) -> Pod:
    spec: dict[str, Any] = obj.get("spec") or {}
    status: dict[str, Any] = obj.get("status") or {}
    owner = meta.controller_of(obj) or {}
    volumes = spec.get("volumes") or ()
    ephemeral = frozenset(
        meta.join_key(meta.namespace(obj), f"{meta.name(obj)}-{volume['name']}")
        for volume in volumes
        if "ephemeral" in volume
    )
    named = [
        meta.join_key(meta.namespace(obj), volume["persistentVolumeClaim"]["claimName"])
        for volume in volumes
        if "persistentVolumeClaim" in volume
    ]
    created = meta.metadata(obj).get("creationTimestamp")
    return Pod(
        key=meta.key(obj),
        uid=meta.uid(obj),
        labels=demands.labels(meta.labels(obj)),
        demand=demands.of(obj),
        priority=spec.get("priority") or 0,
        node_name=spec.get("nodeName") or "",
        nominated_node=status.get("nominatedNodeName") or "",
        scheduler_name=spec.get("schedulerName") or "default-scheduler",
        is_terminating=meta.is_deleting(obj),
        created_s=meta.parse_time(created) if created else 0.0,
        started=status.get("startTime") or "",
        owner_kind=owner.get("kind") or "",
        owner_name=owner.get("name") or "",
        owner_uid=owner.get("uid") or "",
        gates=tuple(gate["name"] for gate in spec.get("schedulingGates") or ()),
        claims=(*named, *sorted(ephemeral)),
        ephemeral_claims=ephemeral,
        disks=_disks(volumes),
    )


def _disks(volumes: Any) -> tuple[Disk, ...]:
    """GCE disks may be shared where all read, iSCSI and RBD too; an EBS volume never."""
    found = []
    for volume in volumes:
        for kind in DISKS:
            source = volume.get(kind)
            if source is None:
                continue
            read_only = bool(source.get("readOnly")) and kind != "awsElasticBlockStore"
            names = ("pdName", "volumeID", "image", "pool", "iqn")
            identity = (kind, *(str(source[name]) for name in names if name in source))
            monitors = tuple(sorted(source.get("monitors") or ()))
            found.append(Disk(identity + monitors, read_only))
    return tuple(found)


def is_terminal(obj: Object) -> bool:
    """Finished Pods hold no resources."""
    return (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed")
