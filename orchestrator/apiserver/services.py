"""Where a Service is, as a server on a node sees it: its cluster address, which the node's proxy carries on; which
endpoints it has; and whom to believe there.

Source: k8s.io/apiserver pkg/util/proxy, ResolveCluster.
"""

from __future__ import annotations

import base64
import binascii
import ssl

from orchestrator.api.meta import Object
from orchestrator.api.resources import ENDPOINTSLICES, SERVICES
from orchestrator.apiserver.lookup import Lookup

SERVICE_LABEL = "kubernetes.io/service-name"


class NoAddress(Exception):
    """Why a Service cannot be reached."""


class NoAuthorities(Exception):
    """Why a `caBundle` is none."""


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


def slices_of(lookup: Lookup, namespace: str, name: str) -> list[Object]:
    """The EndpointSlices of a Service."""
    return [found for found in lookup.list(ENDPOINTSLICES, namespace) if service_of(found) == name]


def service_of(endpoint_slice: Object) -> str:
    """Whose slice it is; "" for nobody's."""
    return str((endpoint_slice["metadata"].get("labels") or {}).get(SERVICE_LABEL) or "")


def trusting(ca_bundle: str) -> ssl.SSLContext:
    """Believes the authorities of a `caBundle` (base64 of PEM), the system's where it is "". Errors: NoAuthorities."""
    if not ca_bundle:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=base64.b64decode(ca_bundle).decode("ascii"))
    except (binascii.Error, UnicodeDecodeError, ssl.SSLError) as error:
        raise NoAuthorities(f"unable to load root certificates: {error}") from error


def authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
