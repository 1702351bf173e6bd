"""The zone: all names of the cluster, changed one Service at a time.

Invariant: the zone's names are the union of its Services' names. A forward name belongs to one Service; a reverse name
may belong to several (an endpoint of two headless Services), so records are kept by Service and joined when asked.
`serial` grows by one with every change, and is the SOA's.
"""

from __future__ import annotations

import ipaddress

from orchestrator.dns import message
from orchestrator.dns.message import Record
from orchestrator.dns.records import TTL_S, Names

SCHEMA_VERSION = "1.1.0"


class Zone:
    def __init__(self, domain: str, server_addresses: tuple[str, ...] = ()) -> None:
        self.domain = domain.lower().strip(".")
        self.serial = 1
        self.namespaces: set[str] = set()
        self._services: dict[str, Names] = {}
        self._owners: dict[str, dict[str, None]] = {}  # name → keys of the Services that give it, in order of arrival
        self._static = self._static_names(server_addresses)

    def _static_names(self, server_addresses: tuple[str, ...]) -> dict[str, dict[int, tuple[Record, ...]]]:
        version, server = f"dns-version.{self.domain}", f"ns.dns.{self.domain}"
        packed = [ipaddress.ip_address(address).packed for address in server_addresses]
        return {
            self.domain: {message.NS: (Record(self.domain, message.NS, TTL_S, message.encode_name(server)),)},
            server: {
                kind: tuple(Record(server, kind, TTL_S, data) for data in packed if len(data) == size)
                for kind, size in ((message.A, 4), (message.AAAA, 16))
            },
            version: {message.TXT: (Record(version, message.TXT, TTL_S, message.text_data(SCHEMA_VERSION)),)},
            f"svc.{self.domain}": {},
            f"pod.{self.domain}": {},
            f"dns.{self.domain}": {},
        }

    def put(self, key: str, names: Names) -> bool:
        """Set what Service `key` ("namespace/name") gives; empty names remove it. False where nothing changed."""
        old = self._services.get(key, {})
        if old == names:
            return False
        for name in old.keys() - names.keys():
            owners = self._owners[name]
            del owners[key]
            if not owners:
                del self._owners[name]
        for name in names:
            self._owners.setdefault(name, {})[key] = None
        if names:
            self._services[key] = names
        else:
            self._services.pop(key, None)
        self.serial += 1
        return True

    def set_namespace(self, namespace: str, *, exists: bool) -> bool:
        if (namespace in self.namespaces) is exists:
            return False
        (self.namespaces.add if exists else self.namespaces.discard)(namespace)
        self.serial += 1
        return True

    def contains(self, name: str) -> bool:
        """Whether the name is in the cluster's domain."""
        return name == self.domain or name.endswith("." + self.domain)

    def find(self, name: str) -> dict[int, tuple[Record, ...]] | None:
        """The records of a name by type; empty where it exists with none, None where it does not exist."""
        if (static := self._static.get(name)) is not None:
            return static
        owners = self._owners.get(name)
        if owners is None:
            return {} if self._is_namespace(name) else None
        if len(owners) == 1:
            return self._services[next(iter(owners))][name]
        joined: dict[int, tuple[Record, ...]] = {}
        for key in owners:
            for kind, records in self._services[key][name].items():
                joined[kind] = tuple(dict.fromkeys(joined.get(kind, ()) + records))
        return joined

    def _is_namespace(self, name: str) -> bool:
        namespace, _, rest = name.partition(".")
        return rest in (f"svc.{self.domain}", f"pod.{self.domain}") and namespace in self.namespaces

    def authority(self) -> Record:
        data = message.authority_data(f"ns.dns.{self.domain}", f"hostmaster.{self.domain}", self.serial, TTL_S)
        return Record(self.domain, message.SOA, TTL_S, data)
