"""The cable between the host and the network namespace of a libvirtd of ours: a veth pair, routes, and the way out.

Guests' bridges are in that namespace, so nothing of theirs touches the host's own network. The host has routes into it
for the guests' networks, the namespace forwards, and where the host has a way out it masquerades what comes from
there. Networks of the libvirt mode `route` or `open` are reachable from the host; those of mode `nat` refuse what they
did not ask for, as libvirt defines it.
Text for `ip -batch` and `nft -f` is computed purely. Applying twice changes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from infra import forwarding
from infra.hypervisor.errors import HypervisorError
from infra.images import cache

NETNS = Path("/run/netns")
INNER = "uplink"  # the namespace's end
MTU = 1500
SHELL_SIGNALS = 128  # a wrapper script's exit code is this and the signal that ended its program


@dataclass(frozen=True)
class Link:
    """`number`, 0 to 255, is the cable's own: its addresses and its name are made from it."""

    number: int
    netns: str
    networks: tuple[str, ...]  # of the guests, both families

    @property
    def outer(self) -> str:
        """The host's end; 15 characters at most."""
        return f"smpvm{self.number}"

    @property
    def table(self) -> str:
        return self.netns

    @property
    def subnets(self) -> tuple[str, str]:
        """Link-local for IPv4: of no use to anyone but the two ends."""
        return f"169.254.{172 + self.number // 64}.{self.number % 64 * 4}/30", f"fd00:172:31:{self.number:x}::/64"

    @property
    def ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The host's addresses, then the namespace's."""
        v4, v6 = (ip_network(subnet) for subnet in self.subnets)
        return (str(v4[1]), str(v6[1])), (str(v4[2]), str(v6[2]))


def outer_commands(link: Link) -> str:
    """Run on the host."""
    (host_v4, host_v6), (inner_v4, inner_v6) = link.ends
    lines = [
        f"link add name {link.outer} mtu {MTU} type veth peer name {INNER} netns {link.netns}",
        f"address add {host_v4}/30 dev {link.outer}",
        f"address add {host_v6}/64 dev {link.outer} nodad",
        f"link set {link.outer} up",
    ]
    for network in link.networks:
        gateway = inner_v4 if ip_network(network).version == 4 else inner_v6
        lines.append(f"route add {network} via {gateway} dev {link.outer}")
    return "\n".join(lines) + "\n"


def inner_commands(link: Link) -> str:
    """Run in the namespace."""
    (host_v4, host_v6), (inner_v4, inner_v6) = link.ends
    return (
        "link set lo up\n"
        f"address add {inner_v4}/30 dev {INNER}\n"
        f"address add {inner_v6}/64 dev {INNER} nodad\n"
        f"link set {INNER} up\n"
        f"route add default via {host_v4} dev {INNER}\n"
        f"route add ::/0 via {host_v6} dev {INNER}\n"
    )


def way_out(link: Link) -> str:
    """nft: masquerade what leaves through the host; replaces the table in one transaction."""
    sources = [*link.subnets, *link.networks]
    lines = []
    for family, version in (("ip", 4), ("ip6", 6)):
        chosen = ", ".join(source for source in sources if ip_network(source).version == version)
        lines.append(f'    {family} saddr {{ {chosen} }} oifname != "{link.outer}" masquerade\n')
    return (
        f"table inet {link.table}\n"
        f"delete table inet {link.table}\n"
        f"table inet {link.table} {{\n"
        "  chain postrouting {\n"
        "    type nat hook postrouting priority srcnat; policy accept;\n"
        f"{''.join(lines)}"
        "  }\n"
        "}\n"
    )


def up(link: Link) -> None:
    """The namespace, and the cable where it is not there yet. Errors: HypervisorError with ip's own words."""
    if not is_up(link):
        _unplug(link)  # half made
        _check_routes(link)
        if not has_netns(link.netns):
            (NETNS / link.netns).unlink(missing_ok=True)  # of before the machine booted, where /run is on a disk
            _run(["ip", "netns", "add", link.netns])
        try:
            _run(["ip", "-batch", "-"], outer_commands(link))
            _run(["ip", "-netns", link.netns, "-batch", "-"], inner_commands(link))
        except HypervisorError:
            down(link)
            raise
    _run(["nsenter", f"--net={NETNS / link.netns}", "sh", "-c", _FORWARD_INSIDE])
    if has_default_route(Path("/proc/net/route").read_text()):
        forwarding.hold(link.table)
        _run([nft(), "-f", "-"], way_out(link))


def is_up(link: Link) -> bool:
    """Whether the cable is this one, and whole: its last part is there. A name alone may be another's by now."""
    if not has_netns(link.netns):
        return False
    shown = _run(["ip", "-netns", link.netns, "-6", "route", "show", "default"])
    return f"via {link.ends[0][1]} dev {INNER}" in shown


def _unplug(link: Link) -> None:
    """By the namespace's end, which is nobody else's."""
    if has_netns(link.netns) and f" {INNER}@" in _run(["ip", "-netns", link.netns, "-oneline", "link", "show"]):
        _run(["ip", "-netns", link.netns, "link", "delete", INNER])


def _check_routes(link: Link) -> None:
    for network in link.networks:
        family = "-4" if ip_network(network).version == 4 else "-6"
        shown = _run(["ip", family, "route", "show", "exact", network])
        if shown.strip():
            raise HypervisorError(
                f"{network} is to be routed to the guests' networks, and is already: {shown.strip()}",
                "Another hypervisor or VPN has it: take that one down, or choose other networks.",
            )


_FORWARD_INSIDE = """\
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
"""


def down(link: Link) -> None:
    """Cable, table and namespace; what is not there is no error. Bridges in the namespace go with it."""
    _unplug(link)
    if shutil.which(nft()):  # without it there was no table
        _run([nft(), "-f", "-"], f"table inet {link.table}\ndelete table inet {link.table}\n")
    forwarding.release(link.table)
    remove_netns(link.netns)


def nft() -> str:
    """The node image's, if this machine has one, else the host's.

    Debian 12's (1.0.6) crashes, whatever it is asked, while a table of a newer one's with concatenated maps is there,
    as the local labs' cloud controller makes them.
    """
    newest = max(cache.folder().glob("node-*/bin/nft"), key=lambda program: program.stat().st_mtime, default=None)
    return str(newest) if newest else "nft"


def has_netns(name: str) -> bool:
    """A namespace is mounted on its file; a file alone is left of one of before the machine booted."""
    place = NETNS / name
    return place.exists() and place.stat().st_dev != NETNS.parent.stat().st_dev


def remove_netns(name: str) -> None:
    if has_netns(name):
        _run(["ip", "netns", "delete", name])
    (NETNS / name).unlink(missing_ok=True)


def free_number(taken_links: frozenset[str]) -> int:
    """The lowest number whose cable does not exist. Errors: HypervisorError where all 256 do."""
    for number in range(256):
        if Link(number, "", ()).outer not in taken_links:
            return number
    raise HypervisorError("256 hypervisors of Sampan are on this machine", "Take one of them away (./sampan down).")


def has_default_route(routes: str) -> bool:
    return any(fields[1] == "00000000" for fields in map(str.split, routes.splitlines()[1:]))


def _run(command: list[str], stdin: str = "") -> str:
    try:
        done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise HypervisorError(f"{command[0]} is not installed", "./sampan toolchain installs it.") from error
    if done.returncode < 0 or done.returncode > SHELL_SIGNALS:
        number = -done.returncode if done.returncode < 0 else done.returncode - SHELL_SIGNALS
        raise HypervisorError(
            f"{command[0]} was ended by {signal.Signals(number).name} while it was given:\n{stdin}",
            "This program has a fault, or is older than what made the tables that are there: upgrade it.",
        )
    if done.returncode != 0:
        given = f"\ngiven:\n{stdin}" if stdin else ""
        raise HypervisorError(
            f"{' '.join(command)}: {done.stderr.strip()}{given}",
            "The host's network did not take it: is the address range in use, or the kernel without veth or nf_tables?",
        )
    return done.stdout


def load(file: Path) -> Link | None:
    try:
        data = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    return Link(data["number"], data["netns"], tuple(data["networks"]))


def store(file: Path, link: Link) -> None:
    new = file.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(vars(link)))
    new.rename(file)
