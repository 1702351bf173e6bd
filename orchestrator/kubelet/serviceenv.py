"""Variables about services: `REDIS_SERVICE_HOST` and Docker-link style names, for each service of the pod's namespace.

The `kubernetes` service of the default namespace is told to every pod; the others only with enableServiceLinks.
Services without a cluster IP are left out. Source: Kubernetes docs, "Discovering services: environment variables".
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.api import meta
from orchestrator.api.meta import Object

MASTER_NAMESPACE, MASTER_NAME = "default", "kubernetes"


def variables(services: Iterable[Object], namespace: str, *, links: bool) -> dict[str, str]:
    chosen: dict[str, Object] = {}
    for service in services:
        name, of = meta.name(service), meta.namespace(service)
        if (service.get("spec") or {}).get("clusterIP") in (None, "", "None"):
            continue
        is_master = (of, name) == (MASTER_NAMESPACE, MASTER_NAME)
        if (of == namespace and links) or (is_master and name not in chosen):
            chosen[name] = service
    found: dict[str, str] = {}
    for name in sorted(chosen):
        found |= _of_service(chosen[name])
    return found


def _of_service(service: Object) -> dict[str, str]:
    spec = service["spec"]
    prefix, address = meta.name(service).upper().replace("-", "_"), spec["clusterIP"]
    ports = spec.get("ports") or []
    if not ports:
        return {}
    shown = f"[{address}]" if ":" in address else address
    found = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            found[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
    for index, port in enumerate(ports):
        protocol = str(port.get("protocol") or "TCP")
        url = f"{protocol.lower()}://{shown}:{port['port']}"
        if index == 0:
            found[f"{prefix}_PORT"] = url
        link = f"{prefix}_PORT_{port['port']}_{protocol}"
        found |= {
            link: url,
            f"{link}_PROTO": protocol.lower(),
            f"{link}_PORT": str(port["port"]),
            f"{link}_ADDR": address,
        }
    return found
