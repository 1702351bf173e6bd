"""Where a Service is, as a server on a node sees it: its cluster address, which the node's proxy carries on.

Source: k8s.io/apiserver pkg/util/proxy, ResolveCluster.
"""

from __future__ import annotations

from orchestrator.api.resources import SERVICES
from orchestrator.apiserver.lookup import Lookup


class NoAddress(Exception):
    """Why a Service cannot be reached."""


def address_of(lookup: Lookup, namespace: str, name: str, port: int) -> str:
    """The cluster address, or the external name, of a Service that has this port. Errors: NoAddress."""
    found = lookup.get(SERVICES, namespace, name)
    if found is None:
        raise NoAddress(f'service "{name}" not found')
    spec = found.get("spec") or {}
    is_external = spec.get("type") == "ExternalName"
    address = spec.get("externalName") if is_external else spec.get("clusterIP")
    if not address or address == "None":
        raise NoAddress(f'service "{name}" has no cluster address')
    if not is_external and not any(one.get("port") == port for one in spec.get("ports") or ()):
        raise NoAddress(f'no service port {port} found for service "{name}"')
    return str(address)


def authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
