"""Host ports and the way out: one nftables table of ours, rendered whole from what is attached.

    hostports     a packet to an address of this node is translated to the pod that asked for the port
    postrouting   pods' traffic that leaves the cluster takes the node's address; so does a pod that reaches itself
                  through its host port, and the node itself coming from 127.0.0.1

Host ports are map elements, so a packet costs a look-up whatever their number. They are few (a DaemonSet or two), so
the table is replaced in one transaction at each change: nothing has to be remembered, and a killed porter starts
from the truth. The proxy has a table of its own; where both know a port, the first translation stands.
Source: nft(8); Kubernetes docs, "Network Plugins", hostPort.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable, Sequence

from msgspec import Struct

from orchestrator.porter.records import PortMapping, Record
from orchestrator.porter.verbs import PorterError

TABLE = "sampan-porter"
INTERVAL = "flags interval; auto-merge;"
ANY = ("", "0.0.0.0", "::")


class Surroundings(Struct, frozen=True):
    """`own`: this node's pod CIDRs; `inside`: every node's pod CIDRs and addresses, never masqueraded."""

    own: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()


def ruleset(around: Surroundings, records: Sequence[Record]) -> str:
    """The commands that make the table exactly this."""
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    for family, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        on_any, on_one, hairpin = _elements(records, family)
        lines += [
            _container(f"set own{family}", f"type {kind}; {INTERVAL}", _cidrs(around.own, family)),
            _container(f"set inside{family}", f"type {kind}; {INTERVAL}", _cidrs(around.inside, family)),
            _container(f"set hairpin{family}", f"type {kind} . {kind};", hairpin),
            _container(f"map any{family}", f"type inet_proto . inet_service : {kind} . inet_service;", on_any),
            _container(f"map one{family}", f"type {kind} . inet_proto . inet_service : {kind} . inet_service;", on_one),
        ]
    return "\n".join([*lines, _CHAINS, "}"]) + "\n"


_CHAINS = """\
  chain hostports {
    dnat ip to ip daddr . meta l4proto . th dport map @one4
    dnat ip to meta l4proto . th dport map @any4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6
    dnat ip6 to meta l4proto . th dport map @any6
  }
  chain prerouting {
    type nat hook prerouting priority dstnat + 5; policy accept;
    fib daddr type local jump hostports
  }
  chain output {
    type nat hook output priority -95; policy accept;
    fib daddr type local jump hostports
  }
  chain postrouting {
    type nat hook postrouting priority srcnat + 5; policy accept;
    ip saddr . ip daddr @hairpin4 masquerade
    ip6 saddr . ip6 daddr @hairpin6 masquerade
    ip saddr 127.0.0.0/8 oifname != "lo" ct status dnat masquerade
    ip saddr @own4 ip daddr != @inside4 ip daddr != 224.0.0.0/4 masquerade
    ip6 saddr @own6 ip6 daddr != @inside6 ip6 daddr != { fe80::/10, ff00::/8 } masquerade
  }"""


def _container(name: str, declaration: str, elements: Sequence[str]) -> str:
    listed = f" elements = {{ {', '.join(elements)} }};" if elements else ""
    return f"  {name} {{ {declaration}{listed} }}"


def _cidrs(cidrs: Iterable[str], family: int) -> list[str]:
    return sorted({cidr for cidr in cidrs if ipaddress.ip_network(cidr, strict=False).version == family})


def _elements(records: Sequence[Record], family: int) -> tuple[list[str], list[str], list[str]]:
    """Elements of the maps for any and for one host address, and of the hairpin set."""
    on_any, on_one, hairpin = [], [], []
    for record in records:
        address = next((ip for ip in record.ips if (6 if ":" in ip else 4) == family), None)
        if address is None or not record.ports:
            continue
        hairpin.append(f"{address} . {address}")
        for port in record.ports:
            key, value = f"{port.protocol.lower()} . {port.host_port}", f"{address} . {port.container_port}"
            if port.host_ip in ANY:
                if port.host_ip == "" or (":" in port.host_ip) == (family == 6):
                    on_any.append(f"{key} : {value}")
            elif (":" in port.host_ip) == (family == 6):
                on_one.append(f"{port.host_ip} . {key} : {value}")
    return sorted(set(on_any)), sorted(set(on_one)), hairpin


def conflict(ports: Sequence[PortMapping], records: Iterable[Record]) -> str:
    """Why these ports cannot be had beside what is attached; "" where they can."""
    for record in records:
        for theirs in record.ports:
            for ours in ports:
                same = (ours.protocol, ours.host_port) == (theirs.protocol, theirs.host_port)
                if same and (ours.host_ip == theirs.host_ip or ours.host_ip in ANY or theirs.host_ip in ANY):
                    return f"host port {ours.host_port}/{ours.protocol} is taken by pod {record.key}"
    return ""


async def commit(text: str) -> None:
    """One transaction. PorterError with what nft says."""
    await run(["nft", "-f", "-"], text, "packet filter refused the host ports")


async def forget_connections(ports: Iterable[PortMapping]) -> None:
    """Flows of a datagram have no end: without this they would go on to the pod that had the port before."""
    for port in ports:
        if port.protocol.upper() == "UDP":
            command = ["conntrack", "-D", "-p", "udp", "--dport", str(port.host_port)]
            for family in ("ipv4", "ipv6"):
                child = await asyncio.create_subprocess_exec(
                    *command, "-f", family, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
                )
                await child.wait()  # exit status 1: there was none


async def run(command: Sequence[str], text: str, failure: str) -> str:
    """A program's output, given `text`. PorterError, beginning with `failure`, where it fails or is missing."""
    try:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE if text else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise PorterError(f"{failure}: {command[0]}: {error.strerror}") from error
    out, err = await child.communicate(text.encode() or None)
    if child.returncode != 0:
        raise PorterError(f"{failure}: {err.decode(errors='replace').strip()}")
    return out.decode()
