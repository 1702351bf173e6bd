"""A lab as data: which nodes it has, how they are called, on which networks. One value for every backend.

Invariants, checked where a Topology is made: names are DNS labels, networks do not overlap, a lab of namespaces has one
control plane and one of machines one or three. Errors: TopologyError names field, value and rule.
Everything that must be unique on one machine (bridge, addresses, MACs, user ids) is derived from the lab's `index`,
which is counted apart for each backend, as their node networks are.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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

LOCAL = "local"  # nodes are namespaces of this machine
LIBVIRT = "libvirt"  # nodes are virtual machines that Pulumi makes
MACHINES = "machines"  # nodes are machines that the user has
BACKENDS = (LOCAL, LIBVIRT, MACHINES)
_SECOND_BYTE = {
    LOCAL: 29,
    LIBVIRT: 30,
    MACHINES: 31,
}  # of the node networks, 172.N.INDEX.0/24 and fd00:172:N:INDEX::/64
CONTROL_PLANES = (1, 3)
CONTROL_PLANES_MAX = 3

MEMORY_MIB = range(512, 1 << 20)
VCPUS = range(1, 129)
DISK_GIB = range(3, 4097)


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
        for name in ("pods_v4", "pods_v6", "services_v4", "services_v6"):
            value = getattr(self, name)
            try:
                parsed[name] = ipaddress.ip_network(value)
            except ValueError as error:
                raise _refuse(f"networks.{name}", value, str(error)) from error
            if parsed[name].version != int(name[-1]):
                raise _refuse(f"networks.{name}", value, f"must be an IPv{name[-1]} network")
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
class Size:
    """Of a virtual machine."""

    memory_mib: int
    vcpus: int
    disk_gib: int

    def check(self, where: str) -> None:
        bounds = {"memoryMib": (self.memory_mib, MEMORY_MIB), "vcpus": (self.vcpus, VCPUS)}
        for name, (value, allowed) in {**bounds, "diskGib": (self.disk_gib, DISK_GIB)}.items():
            if value not in allowed:
                raise _refuse(f"{where}.{name}", value, f"must be between {allowed[0]} and {allowed[-1]}")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine that the user has: where SSH finds it ([user@]host[:port]), and its addresses, if they are known."""

    ssh: str
    address_v4: str = ""
    address_v6: str = ""

    def check(self, where: str) -> None:
        if not re.match(r"^([\w.-]+@)?([\w.-]+|\[[0-9a-fA-F:]+\])(:\d+)?$", self.ssh):
            raise _refuse(f"{where}.ssh", self.ssh, "must be [user@]host[:port], an IPv6 address in brackets")
        for name, value, kind in (("ipv4", self.address_v4, IPv4Address), ("ipv6", self.address_v6, IPv6Address)):
            try:
                kind(value or kind(1))
            except ValueError as error:
                raise _refuse(f"{where}.{name}", value, str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine of the lab. `index` never changes while the node lives; addresses and ids are made from it."""

    name: str
    role: str
    index: int
    address_v4: str
    address_v6: str
    user_id: int  # of the unprivileged user `sampan`; the NODE_IDS - 1 ids after it are its containers'
    mac: str = ""
    size: Size | None = None  # of a virtual machine
    hypervisor: str = ""  # libvirt URI; empty: the lab's own
    ssh: str = ""  # of a machine that the user has
    zone: str = ""  # label topology.kubernetes.io/zone; empty: none


@dataclass(frozen=True, kw_only=True)
class Topology:
    name: str = "lab"
    index: int = 0
    backend: str = LOCAL
    control_planes: int = 1
    workers: int = 2
    separate: bool = False  # every component is a process of its own
    networks: Networks = Networks()
    control_plane_size: Size = Size(memory_mib=1536, vcpus=2, disk_gib=10)
    worker_size: Size = Size(memory_mib=1536, vcpus=2, disk_gib=10)
    zones: tuple[str, ...] = ()  # nodes of each role are spread over them in turn
    hypervisors: Mapping[str, str] = field(default_factory=dict)  # libvirt URI by node, where not the lab's own
    machines: tuple[Machine, ...] = ()  # of a lab on machines: one a node, control planes first

    def __post_init__(self) -> None:
        if not _LABEL.match(self.name) or len(self.name) > NAME_LENGTH_MAX:
            raise _refuse("name", self.name, f"must be a DNS label of at most {NAME_LENGTH_MAX} characters")
        if not 0 <= self.index <= LAB_INDEX_MAX:
            raise _refuse("index", self.index, f"must be between 0 and {LAB_INDEX_MAX}")
        if self.backend not in BACKENDS:
            raise _refuse("backend", self.backend, f"must be one of {', '.join(BACKENDS)}")
        if self.backend == LOCAL and self.control_planes != 1:
            raise _refuse("controlPlanes", self.control_planes, "must be 1: the SQLite store serves one API server")
        if self.control_planes not in CONTROL_PLANES:
            raise _refuse("controlPlanes", self.control_planes, "must be 1 or 3: a majority has to survive one loss")
        if not 0 <= self.workers <= NODES_MAX - self._first_worker:
            raise _refuse("workers", self.workers, f"must be between 0 and {NODES_MAX - self._first_worker}")
        for taken in (self.networks.pods_v4, self.networks.services_v4):
            if self.node_network_v4.overlaps(IPv4Network(taken)):
                raise _refuse("networks", taken, f"overlaps the node network {self.node_network_v4}")
        self.control_plane_size.check("controlPlane")
        self.worker_size.check("worker")
        for zone in self.zones:
            if not _LABEL.match(zone) or len(zone) > 63:
                raise _refuse("zones", zone, "must be a DNS label of at most 63 characters")
        self._check_places()

    def _check_places(self) -> None:
        names = [name for name, _ in self._names]
        for name, uri in self.hypervisors.items():
            if name not in names:
                raise _refuse("hypervisors", name, f"is no node of this lab; its nodes are {', '.join(names)}")
            if "://" not in uri:
                raise _refuse(f"hypervisors.{name}", uri, "must be a libvirt URI, such as qemu+ssh://root@host/system")
        if self.backend == MACHINES and len(self.machines) != len(names):
            given = [machine.ssh for machine in self.machines]
            raise _refuse("machines", given, f"must name one machine for each of the {len(names)} nodes")
        for place, machine in enumerate(self.machines):
            machine.check(f"machines[{place}]")

    @property
    def _first_worker(self) -> int:
        """Labs of machines keep places for three control planes, so that addresses stay when those come."""
        return self.control_planes if self.backend == LOCAL else CONTROL_PLANES_MAX

    @property
    def _names(self) -> list[tuple[str, str]]:
        """Name and role of every node, control planes first."""
        numbers = {CONTROL_PLANE: self.control_planes, WORKER: self.workers}
        return [(f"{role}-{number + 1}", role) for role, count in numbers.items() for number in range(count)]

    @cached_property
    def node_network_v4(self) -> IPv4Network:
        return IPv4Network(f"172.{_SECOND_BYTE[self.backend]}.{self.index}.0/24")

    @cached_property
    def node_network_v6(self) -> IPv6Network:
        return IPv6Network(f"fd00:172:{_SECOND_BYTE[self.backend]}:{self.index:x}::/64")

    @property
    def load_balancers(self) -> tuple[tuple[IPv4Address, IPv4Address], tuple[IPv6Address, IPv6Address]]:
        """First and last address of each family that services of type LoadBalancer may have."""
        v4, v6 = self.node_network_v4, self.node_network_v6
        return (v4[200], v4[250]), (v6[0x200], v6[0x250])

    @property
    def gateway(self) -> tuple[IPv4Address, IPv6Address]:
        """The host's own addresses on the lab's bridge."""
        return self.node_network_v4[1], self.node_network_v6[1]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(self._node(place, name, role) for place, (name, role) in enumerate(self._names))

    def _node(self, place: int, name: str, role: str) -> Node:
        turn = int(name.rpartition("-")[2]) - 1  # within its role
        index = turn if role == CONTROL_PLANE else self._first_worker + turn
        machine = self.machines[place] if self.backend == MACHINES else Machine(ssh="")
        is_virtual = self.backend == LIBVIRT
        size = self.control_plane_size if role == CONTROL_PLANE else self.worker_size
        return Node(
            name=name,
            role=role,
            index=index,
            address_v4=machine.address_v4 or str(self.node_network_v4[10 + index]),
            address_v6=machine.address_v6 or str(self.node_network_v6[10 + index]),
            user_id=NODE_IDS * (1 + self.index * NODES_MAX + index),
            mac=f"52:54:00:5a:{self.index:02x}:{index:02x}" if is_virtual else "",
            size=size if is_virtual else None,
            hypervisor=self.hypervisors.get(name, ""),
            ssh=machine.ssh,
            zone=self.zones[turn % len(self.zones)] if self.zones else "",
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
        """As JSON would give it back, so that what is kept in a file can be compared with what is wished."""
        data = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}

    @staticmethod
    def from_data(data: dict[str, Any]) -> Topology:
        parsed = dict(data)
        for name, kind in (("networks", Networks), ("control_plane_size", Size), ("worker_size", Size)):
            if name in parsed:
                parsed[name] = kind(**parsed[name])
        parsed["zones"] = tuple(parsed.get("zones", ()))
        parsed["machines"] = tuple(Machine(**machine) for machine in parsed.get("machines", ()))
        return Topology(**parsed)
