"""What a cloud is to a cluster: protocols, and the values that pass through them.

An *instance* is the machine behind a Node; it is known by the Node's name, and by a provider id
`sampan://<lab>/<node>` once it has one. Every call says what is wanted or asks what is; none of them remembers who
asked, so a controller that restarts asks again and nothing is done twice.
Errors: CloudError, with words for the user, where the cloud cannot be asked or refuses. A thing that does not exist
is an answer (None, or nothing in a list), never an error: whoever deletes Nodes must be able to tell the two apart.
Source: k8s.io/cloud-provider, cloud.go; Concepts, "Cloud Controller Manager".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct, field

Family = Literal["IPv4", "IPv6"]


class CloudError(RuntimeError):
    """The cloud could not be asked, or refused; the message says what and why."""


class Instance(Struct, frozen=True, kw_only=True):
    """A machine as the cloud knows it. `addresses` are (type, address) as in a Node's status, InternalIP first."""

    name: str  # the Node's
    provider_id: str
    addresses: tuple[tuple[str, str], ...]
    instance_type: str
    zone: str
    region: str
    is_shut_down: bool


class Instances(Protocol):
    async def get(self, node: str, provider_id: str) -> Instance | None:
        """The instance of a Node, by its provider id where it has one; None where there is none (any more)."""


class Route(Struct, frozen=True, order=True):
    """A pod network and the address of the node behind which it lies, of the same family."""

    destination: str  # CIDR
    via: str


class Routes(Protocol):
    """Routes of the cloud's own router; those that somebody else has set are not listed and not touched."""

    async def list(self) -> frozenset[Route]: ...

    async def create(self, route: Route) -> None:
        """Replaces a route of the same destination."""

    async def delete(self, route: Route) -> None: ...


class ServicePort(Struct, frozen=True, order=True):
    """A port of a load balancer and the node port that its traffic goes to."""

    protocol: str  # TCP, UDP, SCTP
    port: int
    node_port: int


class Backend(Struct, frozen=True, order=True):
    """A node that takes traffic: its InternalIPs."""

    node: str
    addresses: tuple[str, ...]


class LoadBalancer(Struct, frozen=True, kw_only=True):
    """A load balancer as a Service asks for it.

    `held`: addresses that it has had by the Service's status, kept where possible. `requested`: spec.loadBalancerIP.
    `health_check_port`: 0, or the port on which each node says over HTTP whether it has endpoints.
    """

    name: str
    service: str  # namespace/name, for words to users
    families: tuple[Family, ...]
    ports: tuple[ServicePort, ...]
    backends: tuple[Backend, ...]
    held: tuple[str, ...] = ()
    requested: str = ""
    source_ranges: tuple[str, ...] = ()  # empty: from anywhere
    affinity_s: int = 0  # a client stays with one node for so long; 0: it need not
    health_check_port: int = 0


class LoadBalancers(Protocol):
    async def restore(self, wanted: Sequence[LoadBalancer]) -> None:
        """At the start, all that there should be, oldest Service first: held addresses are theirs before any new one
        is given out (the older one keeps an address that two hold), and what is left of others is removed."""

    async def ensure(self, wanted: LoadBalancer) -> tuple[str, ...]:
        """Make or change one; its addresses, in the order of `families`. Serves when this returns."""

    async def delete(self, name: str) -> None: ...


class Volume(Struct, frozen=True, kw_only=True):
    """A disk of the cloud. `attached_to`: the Nodes whose instances have it (one, or none). Where not every Node can
    have it, `reach` are the only ones that can, or `beyond` those that cannot."""

    name: str
    size_bytes: int
    attached_to: tuple[str, ...] = ()
    reach: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()


class Volumes(Protocol):
    """Disks, by names that are their serial numbers too. Every verb may be repeated, and may have been cut short
    before: what is there already is left as it is."""

    async def create(self, name: str, size_bytes: int, near: str) -> Volume:
        """Blank, of that size at least, where the Node `near` can have it ("" for any). One that exists is returned,
        whatever its size."""

    async def delete(self, name: str) -> None:
        """CloudError while it is attached."""

    async def attach(self, name: str, node: str) -> None:
        """The node can see it when this returns, or within seconds."""

    async def detach(self, name: str, node: str) -> None:
        """From a node whose instance is gone it is detached already. CloudError while the node holds on to it."""

    async def attached(self, node: str) -> frozenset[str]:
        """What the node can see; nothing of a node whose instance is gone or off."""

    async def resize(self, name: str, size_bytes: int) -> int:
        """Never smaller, and attached or not; the size that it has then."""

    async def all(self) -> tuple[Volume, ...]: ...


class Cloud(Struct, frozen=True):
    """What a cloud offers; a part that it lacks is None, and its controller does not run."""

    name: str  # of the provider: local, libvirt
    instances: Instances
    routes: Routes | None = None
    load_balancers: LoadBalancers | None = None
    volumes: Volumes | None = None
    background: tuple[Background, ...] = field(default=())


class Background(Protocol):
    """Work that a cloud does by itself while the controllers run, such as health checks."""

    async def run(self) -> None: ...
