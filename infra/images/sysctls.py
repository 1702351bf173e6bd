"""Kernel settings that every node has, by their path below /proc/sys: a namespace node's and a VM's."""

from __future__ import annotations

SYSCTLS = {
    "net/ipv4/ip_unprivileged_port_start": "0",  # hostNetwork pods and the components bind low ports
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
    "net/ipv4/conf/all/route_localnet": "1",  # services at 127.0.0.1 (node ports)
    "net/ipv4/conf/default/route_localnet": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv6/conf/all/accept_dad": "0",  # addresses are ours alone: usable at once
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/all/accept_ra": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    # Replies between pods of one bridge must pass conntrack, or a service's address is not translated back.
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/bridge/bridge-nf-call-ip6tables": "1",
}
