"""What `Pulumi.<stack>.yaml` says under `sampan:`: the lab's topology, and how its machines are made. Pure.

Errors: TopologyError names field, value and rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infra import configuration
from infra.configuration import wrong
from infra.topology import Topology

NAMESPACE = "sampan"
AUTOMATIC = "auto"
DOMAIN_TYPES = (AUTOMATIC, "kvm", "qemu")
MACHINES = ("pc", "q35")
PROVIDERS = ("sampan", "upstream")
_OWN = ("uri", "domainType", "machine", "image", "provider")


@dataclass(frozen=True, kw_only=True)
class Settings:
    topology: Topology
    uri: str = ""  # of libvirt; empty: what this machine has
    domain_type: str = AUTOMATIC
    machine: str = "pc"  # has 32 slots that a disk can be plugged into; q35 needs a port for each
    image: str = ""  # a Debian cloud image of the user's own; empty: Sampan's
    provider: str = "sampan"


def namespaced(config: Mapping[str, object]) -> dict[str, object]:
    """The settings of a whole stack configuration that are a lab's, by key."""
    prefix = f"{NAMESPACE}:"
    return {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}


def lab_name(values: Mapping[str, object], stack: str) -> str:
    return configuration.text("name", values.get("name", stack))


def read(values: Mapping[str, object], *, stack: str, index: int) -> Settings:
    """`index`: the place that this machine has for the lab."""
    own = {key: configuration.text(key, value) for key, value in values.items() if key in _OWN}
    for key, allowed in (("domainType", DOMAIN_TYPES), ("machine", MACHINES), ("provider", PROVIDERS)):
        if key in own and own[key] not in allowed:
            raise wrong(key, own[key], f"must be one of {', '.join(allowed)}")
    if own.get("uri") and "://" not in own["uri"] and not own["uri"].endswith(("/system", "/session")):
        raise wrong("uri", own["uri"], "must be a libvirt URI, such as qemu:///system")
    topology = configuration.topology(
        {key: value for key, value in values.items() if key not in _OWN}, name=stack, index=index
    )
    named = {"uri": "uri", "domainType": "domain_type", "machine": "machine", "image": "image", "provider": "provider"}
    return Settings(topology=topology, **{named[key]: value for key, value in own.items()})
