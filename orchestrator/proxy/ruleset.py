"""Service ports become elements of maps: a packet costs a few hash lookups, however many services there are.

One table, `inet sampan-proxy`. A front (`address . protocol . port`, or `protocol . nodePort` on the node's own
addresses) is one element of a verdict map and leads to a chain that is shared by all services of the same shape: so
many endpoints, so long an affinity. That chain draws a number below the count of endpoints, and a second map takes
`front . number` to `endpoint address . port`. So there is no chain per service and none per endpoint, and a changed
endpoint is one element. The number travels in the packet mark, in two ranges:

    0 … N-1                 the endpoints that the whole cluster offers
    LOCAL + 0 … M-1         those on this node, for externalTrafficPolicy: Local

With session affinity the number leads to a *slot* first (SLOT + a hash of the endpoint, so it outlives any change of
the other endpoints), which is remembered per client in a map with a timeout and leads to the endpoint.

Traffic that must come back through this node is masqueraded: from outside the pod network to any front, and hairpin (a
local endpoint that reaches itself through its service). A front without endpoints is refused in all hooks.
Source: kube-proxy's documented behaviour (Reference, "Virtual IPs and Service Proxies"); nft(8).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

from msgspec import Struct, field

from orchestrator.proxy.endpoints import Choice
from orchestrator.proxy.services import Endpoint, Family, ServicePort

TABLE = "sampan-proxy"
MASQUERADE = 0x4000  # of the conntrack mark
LOCAL = 0x10000
SLOT = 0x80000000
AFFINITY_CLIENTS_MAX = 65536

Element = tuple[str, str]  # set or map, key


class Shape(Struct, frozen=True, order=True):
    """What a chain does to the packets of a front; services of one shape share it. `external` fronts masquerade;
    `local_count` is -1 unless the Local policy holds."""

    kind: str  # "vip": keyed by address, "node": keyed by node port
    family: Family
    count: int
    local_count: int = -1
    affinity_s: int = 0
    external: bool = False

    @property
    def chain(self) -> str:
        parts = [f"{self.kind}{self.family}", f"n{self.count}"]
        parts += [f"l{self.local_count}"] if self.local_count >= 0 else []
        parts += [f"a{self.affinity_s}"] if self.affinity_s else []
        parts += ["ext"] if self.external else []
        return "-".join(parts)


class Rules(Struct):
    """The elements and shapes that one service port needs; a value is "" in a set."""

    elements: dict[Element, str] = field(default_factory=dict)
    shapes: set[Shape] = field(default_factory=set)


def rules_of(port: ServicePort, choice: Choice) -> Rules:
    """Everything that one service port puts into the table."""
    rules = Rules()
    for address in port.cluster_ips:
        rules.elements[f"cluster-ip{port.family}", address] = ""
        _front(rules, port, _vip(port, address), choice.internal, exists=choice.exists)
    for address in (*port.external_ips, *port.load_balancer_ips):
        key = _vip(port, address)
        _external_front(rules, "vip", port, key, choice)
        if address in port.load_balancer_ips and port.source_ranges:
            rules.elements[f"guarded{port.family}", key] = ""
            for source in port.source_ranges:
                rules.elements[f"allowed{port.family}", f"{key} . {source}"] = ""
    if port.node_port:
        _external_front(rules, "node", port, f"{port.protocol} . {port.node_port}", choice)
    for endpoint in choice.local:
        rules.elements[f"hairpin{port.family}", f"{endpoint.address} . {endpoint.address}"] = ""
    return rules


def _vip(port: ServicePort, address: str) -> str:
    return f"{address} . {port.protocol} . {port.port}"


def _front(rules: Rules, port: ServicePort, key: str, endpoints: Sequence[Endpoint], *, exists: bool) -> None:
    """A ClusterIP."""
    if not endpoints:
        rules.elements[f"vip-refused{port.family}", key] = "drop" if exists else "goto refuse"
        return
    shape = Shape("vip", port.family, len(endpoints), affinity_s=port.affinity_s)
    rules.shapes.add(shape)
    rules.elements[f"vip{port.family}", key] = f"goto {shape.chain}"
    _targets(rules, shape, key, endpoints, 0)


def _external_front(rules: Rules, kind: str, port: ServicePort, key: str, choice: Choice) -> None:
    """A front that is reached from outside the cluster: node port, external address, load balancer address."""
    if not choice.exists:
        rules.elements[f"{kind}-refused{port.family}", key] = "goto refuse"
        return
    local_count = len(choice.local) if port.external_local else -1
    shape = Shape(kind, port.family, len(choice.cluster), local_count, port.affinity_s, external=True)
    rules.shapes.add(shape)
    rules.elements[f"{kind}{port.family}", key] = f"goto {shape.chain}"
    _targets(rules, shape, key, choice.cluster, 0)
    if port.external_local:
        _targets(rules, shape, key, choice.local, LOCAL)


def _targets(rules: Rules, shape: Shape, key: str, endpoints: Iterable[Endpoint], first: int) -> None:
    """The elements from a drawn number to an endpoint, by way of its slot where clients are remembered."""
    for number, endpoint in enumerate(endpoints, first):
        target = f"{endpoint.address} . {endpoint.port}"
        mark = number
        if shape.affinity_s:
            mark = slot(endpoint)
            rules.elements[f"{shape.kind}-slot{shape.family}", f"{key} . {number}"] = str(mark)
        rules.elements[f"{shape.kind}-endpoint{shape.family}", f"{key} . {mark}"] = target


def slot(endpoint: Endpoint) -> int:
    return SLOT | zlib.crc32(f"{endpoint.address} {endpoint.port}".encode()) & 0x7FFFFFFF


def chain_rules(shape: Shape) -> list[str]:
    """The rules of a shape's chain, in order."""
    ip = "ip" if shape.family == "4" else "ip6"
    rules = []
    if shape.local_count < 0:
        outside = "" if shape.external else f"{ip} saddr != @pod-network{shape.family} "
        rules.append(f"{outside}jump masquerade-later")
        return rules + _draw(shape, shape.count, 0)
    # externalTrafficPolicy: Local. Pods and this node itself may use every endpoint; others keep their source address.
    everywhere = Shape(shape.kind, shape.family, shape.count, affinity_s=shape.affinity_s, external=True)
    rules.append(f"{ip} saddr @pod-network{shape.family} goto {everywhere.chain}")
    rules.append(f"fib saddr type local goto {everywhere.chain}")
    return rules + (_draw(shape, shape.local_count, LOCAL) if shape.local_count else ["drop"])


def prerequisite(shape: Shape) -> Shape | None:
    """The shape whose chain this shape's chain goes to."""
    if shape.local_count < 0:
        return None
    return Shape(shape.kind, shape.family, shape.count, affinity_s=shape.affinity_s, external=True)


def _draw(shape: Shape, count: int, first: int) -> list[str]:
    ip = "ip" if shape.family == "4" else "ip6"
    front = "meta l4proto . th dport" if shape.kind == "node" else f"{ip} daddr . meta l4proto . th dport"
    prefix, family = shape.kind, shape.family
    number = f"numgen random mod {count}" + (f" offset {first}" if first else "")
    send = f"dnat {ip} to {front} . meta mark map @{prefix}-endpoint{family}"
    if not shape.affinity_s:
        return [f"meta mark set {number}", send]
    client = f"{ip} saddr . {front}"
    return [
        f"meta mark set {client} map @{prefix}-client{family}",
        send,  # fails, and goes on below, when that endpoint is gone
        f"meta mark set {number}",
        f"meta mark set {front} . meta mark map @{prefix}-slot{family}",
        f"update @{prefix}-client{family} {{ {client} timeout {shape.affinity_s}s : meta mark }}",
        send,
    ]


def skeleton(pod_networks: Iterable[str]) -> list[str]:
    """The table without services, as nft commands: sets, maps, hooks. Replaces whatever the table held before."""
    lines = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"add table inet {TABLE}"]
    networks = list(pod_networks)
    for family in ("4", "6"):
        lines += _declare(family, [net for net in networks if (":" in net) == (family == "6")])
    lines += _hooks()
    return lines


def _declare(family: str, networks: list[str]) -> list[str]:
    address = "ipv4_addr" if family == "4" else "ipv6_addr"
    fronts = {"vip": f"{address} . inet_proto . inet_service", "node": "inet_proto . inet_service"}
    lines = []
    for kind, front in fronts.items():
        lines += [
            f"add map inet {TABLE} {kind}{family} {{ type {front} : verdict ; }}",
            f"add map inet {TABLE} {kind}-refused{family} {{ type {front} : verdict ; }}",
            f"add map inet {TABLE} {kind}-endpoint{family} {{ type {front} . mark : {address} . inet_service ; }}",
            f"add map inet {TABLE} {kind}-slot{family} {{ type {front} . mark : mark ; }}",
            f"add map inet {TABLE} {kind}-client{family} {{ type {address} . {front} : mark ;"
            f" flags dynamic,timeout ; size {AFFINITY_CLIENTS_MAX} ; }}",
        ]
    vip = fronts["vip"]
    lines += [
        f"add set inet {TABLE} cluster-ip{family} {{ type {address} ; }}",
        f"add set inet {TABLE} hairpin{family} {{ type {address} . {address} ; }}",
        f"add set inet {TABLE} guarded{family} {{ type {vip} ; }}",
        f"add set inet {TABLE} allowed{family} {{ type {vip} . {address} ; flags interval ; }}",
        f"add set inet {TABLE} pod-network{family} {{ type {address} ; flags interval ; }}",
    ]
    if networks:
        lines.append(f"add element inet {TABLE} pod-network{family} {{ {', '.join(networks)} }}")
    return lines


def _hooks() -> list[str]:
    chain, rule = f"add chain inet {TABLE}", f"add rule inet {TABLE}"
    vip = {"4": "ip daddr . meta l4proto . th dport", "6": "ip6 daddr . meta l4proto . th dport"}
    own = {"4": "ip daddr != 127.0.0.0/8 fib daddr type local", "6": "ip6 daddr != ::1 fib daddr type local"}
    lines = [
        f"{chain} masquerade-later",
        f"{rule} masquerade-later ct mark set ct mark or {MASQUERADE}",
        f"{chain} refuse",
        f"{rule} refuse meta l4proto tcp reject with tcp reset",
        f"{rule} refuse reject",
        f"{chain} services",
        f"{chain} refusals",
        f"{chain} guards",
    ]
    for family in ("4", "6"):
        ip = "ip" if family == "4" else "ip6"
        proto = "ipv4" if family == "4" else "ipv6"
        lines += [
            f"{rule} services {vip[family]} vmap @vip{family}",
            f"{rule} services meta nfproto {proto} {own[family]} meta l4proto . th dport vmap @node{family}",
            f"{rule} refusals {vip[family]} vmap @vip-refused{family}",
            f"{rule} refusals meta nfproto {proto} {own[family]} meta l4proto . th dport vmap @node-refused{family}",
            f"{rule} refusals ct state new {ip} daddr @cluster-ip{family} goto refuse",
            f"{rule} guards {vip[family]} @guarded{family} {vip[family]} . {ip} saddr != @allowed{family} drop",
        ]
    for name, hook in {
        "guard": "filter hook prerouting priority dstnat - 10",
        "prerouting": "nat hook prerouting priority dstnat",
        "output": "nat hook output priority -100",
        "postrouting": "nat hook postrouting priority srcnat",
        "input": "filter hook input priority -10",
        "forward": "filter hook forward priority -10",
        "local": "filter hook output priority -10",
    }.items():
        lines.append(f"{chain} {name} {{ type {hook} ; }}")
    lines += [f"{rule} guard ct state new jump guards"]
    lines += [f"{rule} {name} jump services" for name in ("prerouting", "output")]
    lines += [f"{rule} {name} ct state new jump refusals" for name in ("input", "forward", "local")]
    lines.append(f"{rule} postrouting ct mark and {MASQUERADE} == {MASQUERADE} masquerade fully-random")
    for family, ip in (("4", "ip"), ("6", "ip6")):
        lines.append(
            f"{rule} postrouting ct status dnat {ip} saddr . {ip} daddr @hairpin{family} masquerade fully-random"
        )
    return lines
