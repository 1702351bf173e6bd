"""/etc/hosts and /etc/resolv.conf of a pod. Pure.

dnsPolicy: ClusterFirst (cluster DNS, the namespace's search path, `ndots:5`), Default (the node's own file), None (only
dnsConfig); ClusterFirst on the host network is Default, ClusterFirstWithHostNet is ClusterFirst. dnsConfig is merged
over: its servers and searches go last, its options win by name.
Source: Kubernetes docs, "DNS for Services and Pods", "Adding entries to Pod /etc/hosts with HostAliases".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.kubelet import podspec

SERVERS_MAX, SEARCHES_MAX, SEARCH_CHARACTERS_MAX = 3, 32, 2048
HEADER = "# Kubernetes-managed hosts file.\n"
HOST_HEADER = "# Kubernetes-managed hosts file (host network).\n"
LOCAL = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("fe00::", "ip6-mcastprefix"),
    ("fe00::1", "ip6-allnodes"),
    ("fe00::2", "ip6-allrouters"),
)


def hosts(pod: Object, pod_ips: Iterable[str], cluster_domain: str) -> str:
    """Of a pod with a network of its own."""
    hostname, domain = podspec.hostname(pod, cluster_domain)
    own = f"{hostname}.{domain}\t{hostname}" if domain else hostname
    lines = [f"{address}\t{names}\n" for address, names in LOCAL]
    lines += [f"{address}\t{own}\n" for address in pod_ips]
    return HEADER + "".join(lines) + _aliases(pod)


def host_network_hosts(pod: Object, node_file: str) -> str:
    return HOST_HEADER + node_file + _aliases(pod)


def _aliases(pod: Object) -> str:
    aliases = podspec.spec(pod).get("hostAliases") or []
    if not aliases:
        return ""
    lines = [f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or ()) + "\n" for alias in aliases]
    return "\n# Entries added by HostAliases.\n" + "".join(lines)


class Resolver(Struct, frozen=True):
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def text(self) -> str:
        lines = [f"search {' '.join(self.searches)}"] if self.searches else []
        lines += [f"nameserver {server}" for server in self.servers]
        lines += [f"options {' '.join(self.options)}"] if self.options else []
        return "\n".join(lines) + "\n" if lines else ""


def parse_resolver(text: str) -> Resolver:
    """A resolv.conf; the last search line counts."""
    servers: list[str] = []
    searches: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        word, *rest = line.split("#")[0].split(";")[0].split() or [""]
        if word == "nameserver" and rest:
            servers.append(rest[0])
        elif word == "search":
            searches = tuple(rest)
        elif word == "options":
            options += rest
    return Resolver(tuple(servers), searches, tuple(options))


def resolver(pod: Object, node: Resolver, cluster_dns: Iterable[str], cluster_domain: str) -> Resolver:
    described = podspec.spec(pod)
    policy = described.get("dnsPolicy") or "ClusterFirst"
    servers = tuple(cluster_dns)
    if policy == "ClusterFirst" and podspec.is_host_network(pod):
        policy = "Default"
    if policy == "None":
        found = Resolver()
    elif policy == "Default" or not servers:
        found = node
    else:
        namespace = meta.namespace(pod)
        own = (f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain)
        found = Resolver(servers, _unique([*own, *node.searches]), ("ndots:5",))
    return _merged(found, described.get("dnsConfig") or {})


def _merged(found: Resolver, config: Mapping[str, Any]) -> Resolver:
    options = {option.partition(":")[0]: option for option in found.options}
    for option in config.get("options") or ():
        value = option.get("value")
        options[option["name"]] = f"{option['name']}:{value}" if value not in (None, "") else option["name"]
    servers = _unique([*found.servers, *(config.get("nameservers") or ())])[:SERVERS_MAX]
    searches = list(_unique([*found.searches, *(config.get("searches") or ())])[:SEARCHES_MAX])
    while len(" ".join(searches)) > SEARCH_CHARACTERS_MAX:
        searches.pop()
    return Resolver(servers, tuple(searches), tuple(options.values()))


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
