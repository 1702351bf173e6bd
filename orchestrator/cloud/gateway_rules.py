"""The gateway's packet filter, from the load balancers and the nodes that answer. Pure: text for `nft -f`.

One table holds everything and is replaced in one transaction; connections that are under way live in conntrack and do
not notice. A front (`address . protocol . port`) leads to a chain of its own, which draws a node and sends the packet
to its node port. Without affinity the draw is random; with it a hash of the client's address falls into one of SLOTS
slots, which are given to nodes by rendezvous hashing, so that a node that comes or goes moves its own share of clients
and no other. A front without a node has no element: what arrives there, or at another port of its address, is refused.

Source addresses. A client's is kept, which the policy Local promises to pods, and by which a node's proxy remembers
clients: answers pass the gateway anyway, as it is the nodes' way out. Two kinds of clients must be given the gateway's
own address instead. The gateway itself would use the load balancer's address as its source. A machine of the nodes'
own network would be answered directly, from an address that it never asked.
Source: nft(8).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence

from msgspec import Struct

from orchestrator.cloud.gateway_addresses import family_of
from orchestrator.cloud.provider import Family, ServicePort

SLOTS = 128
KEYS: dict[Family, str] = {"IPv4": "ipv4_addr", "IPv6": "ipv6_addr"}
HASH_SEED = 0x53616D70  # fixed: a reload must not move clients


class Front(Struct, frozen=True, kw_only=True):
    """One load balancer in one family. `backends`: (node, address) of those that answer."""

    address: str
    ports: tuple[ServicePort, ...]
    backends: tuple[tuple[str, str], ...]
    source_ranges: tuple[str, ...] = ()
    has_affinity: bool = False


class Place(Struct, frozen=True, kw_only=True):
    """Where the gateway stands: its bridge to the nodes, its own addresses there, and the nodes' networks."""

    table: str
    bridge: str
    addresses: tuple[str, ...]
    networks: tuple[str, ...]


def removal(table: str) -> str:
    """Also where there is none."""
    return f"table inet {table}\ndelete table inet {table}\n"


def ruleset(place: Place, fronts: Sequence[Front]) -> str:
    chains: list[str] = []
    elements: dict[Family, list[str]] = {"IPv4": [], "IPv6": []}
    for front in sorted(fronts, key=lambda one: one.address):
        if not front.backends:
            continue
        for port in front.ports:
            name = f"front-{len(chains)}"
            chains.append(_chain(name, place, front, port))
            elements[family_of(front.address)].append(
                f"{front.address} . {port.protocol.lower()} . {port.port} : goto {name}"
            )
    vips = {family: [one.address for one in fronts if family_of(one.address) == family] for family in elements}
    lines = [removal(place.table).rstrip(), f"table inet {place.table} {{"]
    for family, kind in KEYS.items():
        lines += _declare(f"vip{family[-1]}", "set", kind, sorted(vips[family]))
        lines += _declare(
            f"front{family[-1]}", "map", f"{kind} . inet_proto . inet_service : verdict", elements[family]
        )
    lines += chains
    lines += _hooks(place)
    return "\n".join([*lines, "}", ""])


def _declare(name: str, kind: str, key: str, elements: Sequence[str]) -> list[str]:
    held = [f"    elements = {{ {', '.join(elements)} }}"] if elements else []
    return [f"  {kind} {name} {{", f"    type {key}", *held, "  }"]


def _chain(name: str, place: Place, front: Front, port: ServicePort) -> str:
    ip = _ip(front.address)
    lines = [f"  chain {name} {{"]
    allowed = _allowed(place, front)
    if allowed is not None:
        lines.append(f"    {ip} saddr != {{ {', '.join(allowed)} }} drop" if allowed else "    drop")
    if front.has_affinity:
        draw = f"jhash {ip} saddr mod {SLOTS} seed 0x{HASH_SEED:x}"
        chosen = slots(front.backends)
    else:
        draw = f"numgen random mod {len(front.backends)}"
        chosen = [address for _, address in front.backends]
    targets = ", ".join(f"{number} : {address} . {port.node_port}" for number, address in enumerate(chosen))
    send = f"meta l4proto {port.protocol.lower()} dnat {ip} to {draw} map {{ {targets} }}"
    return "\n".join([*lines, f"    {send}", "  }"])


def _allowed(place: Place, front: Front) -> list[str] | None:
    """The front's source ranges in order and without overlap; None: everybody. Ranges of the other family alone leave
    nobody: who restricts one family does not mean to open the other.

    What comes from the gateway itself has the load balancer's own address here, and counts as the gateway's.
    """
    if not front.source_ranges:
        return None
    family = family_of(front.address)
    mine = [ipaddress.ip_network(text) for text in front.source_ranges if family_of(text) == family]
    own = [ipaddress.ip_address(text) for text in place.addresses if family_of(text) == family]
    if any(address in network for address in own for network in mine):
        mine.append(ipaddress.ip_network(front.address))
    return [str(network) for network in ipaddress.collapse_addresses(mine)]  # type: ignore[type-var]


def slots(backends: Sequence[tuple[str, str]]) -> list[str]:
    """The address behind each slot: that of the node whose hash with the slot's number is the highest."""

    def rank(slot: int, node: str) -> bytes:
        return hashlib.sha256(f"{slot} {node}".encode()).digest()

    return [max(backends, key=lambda backend: rank(slot, backend[0]))[1] for slot in range(SLOTS)]


def _hooks(place: Place) -> list[str]:
    lines = [
        "  chain fronts {",
        "    ip daddr . meta l4proto . th dport vmap @front4",
        "    ip6 daddr . meta l4proto . th dport vmap @front6",
        "  }",
        "  chain prerouting {",
        "    type nat hook prerouting priority dstnat - 5",
        "    jump fronts",
        "  }",
        "  chain output {",
        "    type nat hook output priority -105",
        "    jump fronts",
        "  }",
        "  chain postrouting {",
        "    type nat hook postrouting priority srcnat - 5",
    ]
    for address in place.addresses:
        ip, vips = _ip(address), f"@vip{family_of(address)[-1]}"
        networks = [network for network in place.networks if family_of(network) == family_of(address)]
        ours = f'oifname "{place.bridge}" ct status dnat ct original {ip} daddr {vips}'
        lines.append(f"    {ours} {ip} saddr {vips} snat {ip} to {address}")
        if networks:
            lines.append(f"    {ours} {ip} saddr {{ {', '.join(networks)} }} snat {ip} to {address}")
    return [
        *lines,
        "  }",
        "  chain input {",
        "    type filter hook input priority filter - 5",
        "    ct state new ip daddr @vip4 meta l4proto != icmp goto refuse",
        "    ct state new ip6 daddr @vip6 meta l4proto != ipv6-icmp goto refuse",
        "  }",
        "  chain refuse {",
        "    meta l4proto tcp reject with tcp reset",
        "    reject",
        "  }",
    ]


def _ip(address: str) -> str:
    return "ip6" if ":" in address else "ip"
