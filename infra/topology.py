"""A lab as data: which nodes it has, how they are called, on which networks. One value for every backend.

Invariants, checked where a Topology is made: names are DNS labels, networks do not overlap, and
there is one control plane. Errors: TopologyError names field, value and rule.
Everything that must be unique on one machine (bridge, addresses, user ids) is derived from the lab's `index`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

LAB_INDEX_MAX = 30
NODES_MAX = 32
NODE_IDS = 1 << 22  # user ids of one node: its user, and the ids of that user's containers
_LABEL = re.compile(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
NAME_LENGTH_MAX = 32

CONTROL_PLANE = "control-plane"
WORKER = "worker"


class TopologyError(ValueError):
    """A lab that cannot be; the message names the field, its value and the rule."""


def _refuse(field: str, value: object, rule: str) -> TopologyError:
    return TopologyError(f"{field}: {value!r}: {rule}")


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Pod and service networks of both families; the node network follows from the lab's index."""

    pods_v4: str = "10.244.0.0/16"
    pods_v6: str = "fd00:10:244::/56"
    services_v4: str = "10.96.0.0/16"
    services_v6: str = "fd00:10:96::/112"
    cluster_domain: str = "cluster.local"

    def __post_init__(self) -> None:
        parsed = {}
        for field in ("pods_v4", "pods_v6", "services_v4", "services_v6"):
            value = getattr(self, field)
            try:
                parsed[field] = ipaddress.ip_network(value)
            except ValueError as error:
                raise _refuse(f"networks.{field}", value, str(error)) from error
            if parsed[field].version != int(field[-1]):
                raise _refuse(f"networks.{field}", value, f"must be an IPv{field[-1]} network")
        for family in ("v4", "v6"):
            pods, services = parsed[f"pods_{family}"], parsed[f"services_{family}"]
            if pods.overlaps(services):
                raise _refuse(f"networks.services_{family}", str(services), f"overlaps networks.pods_{family} {pods}")
        if parsed["pods_v4"].prefixlen > 19 or parsed["pods_v6"].prefixlen > 59:
            raise _refuse("networks", self.pods_v4, f"pod networks must hold {NODES_MAX} nodes (/24 and /64 each)")

    @property
    def kubernetes_service(self) -> tuple[str, str]:
        return str(ipaddress.ip_network(self.services_v4)[1]), str(ipaddress.ip_network(self.services_v6)[1])

    @property
    def dns_service(self) -> tuple[str, str]:
        return str(ipaddress.ip_network(self.services_v4)[10]), str(ipaddress.ip_network(self.services_v6)[10])


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine of the lab. `index` never changes while the node lives; addresses and ids are made from it."""

    name: str
    role: str
    index: int
    address_v4: str
    address_v6: str
    user_id: int  # of the unprivileged user `sampan`; the NODE_IDS - 1 ids after it are its containers'


@dataclass(frozen=True, kw_only=True)
class Topology:
    name: str = "lab"
    index: int = 0
    control_planes: int = 1
    workers: int = 2
    separate: bool = False  # every component is a process of its own
    networks: Networks = Networks()

    def __post_init__(self) -> None:
        if not _LABEL.match(self.name) or len(self.name) > NAME_LENGTH_MAX:
            raise _refuse("name", self.name, f"must be a DNS label of at most {NAME_LENGTH_MAX} characters")
        if not 0 <= self.index <= LAB_INDEX_MAX:
            raise _refuse("index", self.index, f"must be between 0 and {LAB_INDEX_MAX}")
        if self.control_planes != 1:
            raise _refuse("controlPlanes", self.control_planes, "must be 1: the SQLite store serves one API server")
        if not 0 <= self.workers <= NODES_MAX - self.control_planes:
            raise _refuse("workers", self.workers, f"must be between 0 and {NODES_MAX - self.control_planes}")
        for taken in (self.networks.pods_v4, self.networks.services_v4):
            if self.node_network_v4.overlaps(IPv4Network(taken)):
                raise _refuse("networks", taken, f"overlaps the node network {self.node_network_v4}")

    @cached_property
    def node_network_v4(self) -> IPv4Network:
        return IPv4Network(f"172.29.{self.index}.0/24")

    @cached_property
    def node_network_v6(self) -> IPv6Network:
        return IPv6Network(f"fd00:172:29:{self.index:x}::/64")

    @property
    def gateway(self) -> tuple[IPv4Address, IPv6Address]:
        """The host's own addresses on the lab's bridge."""
        return self.node_network_v4[1], self.node_network_v6[1]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        roles = [CONTROL_PLANE] * self.control_planes + [WORKER] * self.workers
        return tuple(self._node(index, role) for index, role in enumerate(roles))

    def _node(self, index: int, role: str) -> Node:
        number = index + 1 if role == CONTROL_PLANE else index + 1 - self.control_planes
        return Node(
            name=f"{role}-{number}",
            role=role,
            index=index,
            address_v4=str(self.node_network_v4[10 + index]),
            address_v6=str(self.node_network_v6[10 + index]),
            user_id=NODE_IDS * (1 + self.index * NODES_MAX + index),
        )

    @property
    def control_plane(self) -> Node:
        return self.nodes[0]

    @property
    def server(self) -> str:
        return f"https://{self.control_plane.address_v4}:6443"

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise _refuse("node", name, f"is not in lab {self.name}; its nodes are {', '.join(n.name for n in self.nodes)}")

    def to_data(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_data(data: dict[str, Any]) -> Topology:
        return Topology(**{**data, "networks": Networks(**data.get("networks", {}))})
