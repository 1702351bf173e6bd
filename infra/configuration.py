"""A lab's configuration, as `Pulumi.<stack>.yaml` has it under `sampan:`, becomes a Topology. Pure.

Keys are camelCase; values arrive as YAML's own types or, from `pulumi config set`, as strings. Unknown keys are
refused: a misspelt `workrs` must not make a lab of the default size. Errors: TopologyError names field, value and rule.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from infra.topology import LIBVIRT, Machine, Networks, Size, Topology, TopologyError

_SIZE = {"memoryMib": "memory_mib", "vcpus": "vcpus", "diskGib": "disk_gib"}
_NETWORKS = {
    "podsV4": "pods_v4",
    "podsV6": "pods_v6",
    "servicesV4": "services_v4",
    "servicesV6": "services_v6",
    "clusterDomain": "cluster_domain",
}
_MACHINE = {"ssh": "ssh", "ipv4": "address_v4", "ipv6": "address_v6"}
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


def wrong(field: str, value: object, rule: str) -> TopologyError:
    return TopologyError(f"{field}: {value!r}: {rule}")


def topology(values: Mapping[str, object], *, name: str, index: int = 0, backend: str = LIBVIRT) -> Topology:
    """`name` and `index` are defaults: of the stack, and of the reservation that this machine gave it."""
    readers: dict[str, tuple[str, Callable[[str, object], Any]]] = {
        "name": ("name", text),
        "index": ("index", number),
        "controlPlanes": ("control_planes", number),
        "workers": ("workers", number),
        "separate": ("separate", truth),
        "networks": ("networks", _networks),
        "controlPlane": ("control_plane_size", lambda field, value: _size(field, value, Topology.control_plane_size)),
        "worker": ("worker_size", lambda field, value: _size(field, value, Topology.worker_size)),
        "zones": ("zones", lambda field, value: tuple(text(field, one) for one in _items(field, value))),
        "hypervisors": ("hypervisors", _texts),
        "machines": ("machines", _machines),
    }
    _only(values, readers, "")
    found: dict[str, Any] = {"name": name, "index": index}
    for key, value in values.items():
        attribute, read = readers[key]
        found[attribute] = read(key, value)
    return Topology(backend=backend, **found)


def number(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise wrong(field, value, "must be a whole number")
    try:
        return int(value)
    except ValueError as error:
        raise wrong(field, value, "must be a whole number") from error


def text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong(field, value, "must be text")
    return value


def truth(field: str, value: object) -> bool:
    said = str(value).lower()
    if said not in (*_TRUE, *_FALSE):
        raise wrong(field, value, "must be true or false")
    return said in _TRUE


def parsed(value: object) -> object:
    """Pulumi hands objects and lists to a program as JSON text."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _items(field: str, value: object) -> list[object]:
    value = parsed(value)
    if not isinstance(value, list):
        raise wrong(field, value, "must be a list")
    return value


def _mapping(field: str, value: object) -> dict[str, object]:
    value = parsed(value)
    if not isinstance(value, dict):
        raise wrong(field, value, "must be a mapping")
    return value


def _only(values: Mapping[str, object], known: Mapping[str, object], where: str) -> None:
    for key, value in values.items():
        if key not in known:
            raise wrong(where + key, value, f"there is no such setting; there are {', '.join(known)}")


def _size(field: str, value: object, default: Size) -> Size:
    given = _mapping(field, value)
    _only(given, _SIZE, f"{field}.")
    sizes = {name: getattr(default, name) for name in _SIZE.values()}
    return Size(**sizes | {_SIZE[key]: number(f"{field}.{key}", one) for key, one in given.items()})


def _networks(field: str, value: object) -> Networks:
    given = _mapping(field, value)
    _only(given, _NETWORKS, f"{field}.")
    return Networks(**{_NETWORKS[key]: text(f"{field}.{key}", one) for key, one in given.items()})


def _texts(field: str, value: object) -> dict[str, str]:
    return {key: text(f"{field}.{key}", one) for key, one in _mapping(field, value).items()}


def _machines(field: str, value: object) -> tuple[Machine, ...]:
    """Each is `[user@]host[:port]`, or a mapping of ssh, ipv4 and ipv6."""
    found = []
    for place, one in enumerate(_items(field, value)):
        given = {"ssh": one} if isinstance(one, str) else _mapping(f"{field}[{place}]", one)
        _only(given, _MACHINE, f"{field}[{place}].")
        if "ssh" not in given:
            raise wrong(f"{field}[{place}]", one, "must say ssh: [user@]host[:port]")
        found.append(Machine(**{_MACHINE[key]: text(f"{field}[{place}].{key}", value) for key, value in given.items()}))
    return tuple(found)
