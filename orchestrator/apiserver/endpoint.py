"""An endpoint: everything the generic verbs need to know of one served resource. Kinds plug in here and only here.

Core is what all endpoints share. There is no handler file a kind: a row of the resource table, its KindRules, its
schema and, for few, a conversion, a strategy or a handler from the tables make an endpoint.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from msgspec import Struct, field

from orchestrator.api import meta, schema
from orchestrator.api.clock import Clock
from orchestrator.api.kinds import registry
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.meta import Object
from orchestrator.api.resources import Resource, ResourceTable
from orchestrator.api.schema import Type
from orchestrator.apiserver import binary, encoding, negotiation
from orchestrator.apiserver.binary import BinaryObjects
from orchestrator.apiserver.components import Components
from orchestrator.apiserver.conversion import Conversion
from orchestrator.apiserver.handlers import Tables
from orchestrator.apiserver.request import AdmissionChain
from orchestrator.apiserver.resourcecache import Entry, ResourceCache
from orchestrator.apiserver.selection import Picker, Selection
from orchestrator.apiserver.watchcache import WatchCache
from orchestrator.apiserver.webhooks.conversion import Conversions
from orchestrator.store.interface import Store

EVENT_TTL_S = 3600


class Core(Struct):
    """What every request may need. `new_uid` and `random` are handed in so that a simulation replays."""

    store: Store
    cache: WatchCache
    clock: Clock
    new_uid: Callable[[], str]
    random: random.Random
    admission: AdmissionChain
    tables: Tables
    resources: ResourceTable
    conversions: Conversions = field(default_factory=Conversions)
    components: Components | None = None
    endpoints: dict[tuple[str, str, str], Endpoint] = field(default_factory=dict)

    def now(self) -> str:
        return meta.format_time(self.clock.now())

    def add(self, resource: Resource, stored: Resource | None = None) -> Endpoint:
        """Serves `resource`; the rows of its stored version must have been added to the table, or be given."""
        if stored is not None:
            pass
        elif not resource.storage_group_version:
            stored = resource
        else:
            group, _, version = resource.storage_group_version.rpartition("/")
            found = self.resources.find(group, version, resource.plural)
            assert found is not None, f"{resource.group_resource} is kept as a version that is not served"
            stored = found
        rules = registry.rules_of(resource, stored)
        conversion = self.conversions.of(resource)
        cache, objects = self.cache.add(stored), binary.objects_of(resource, conversion)
        picker = cache.picker
        if resource.custom is not None:
            picker = Picker(resource.group_resource, resource.custom.selectable)
        endpoint = Endpoint(resource, stored, cache, rules, schema.type_of(resource), conversion, picker, objects)
        self.endpoints[resource.group, resource.version, resource.plural] = endpoint
        return endpoint

    def remove(self, resource: Resource) -> None:
        self.endpoints.pop((resource.group, resource.version, resource.plural), None)


class Endpoint(Struct, frozen=True):
    """`resource` as served, `stored` as kept: the same but for the few kinds with a conversion."""

    resource: Resource
    stored: Resource
    cache: ResourceCache
    rules: KindRules
    type: Type | None
    conversion: Conversion | None
    picker: Picker  # of the fields that this version can be selected by
    binary: BinaryObjects | None = None  # renders it as protobuf, if its kind has a message

    @property
    def encodings(self) -> tuple[str, ...]:
        """The media types that its objects are to be had in."""
        return negotiation.ENCODINGS if self.binary is not None else negotiation.TEXTS

    @property
    def ttl_s(self) -> float:
        return EVENT_TTL_S if self.stored.group_resource == "events" else 0

    def to_stored(self, obj: Object) -> Object:
        return self.conversion.to_stored(obj) if self.conversion else obj

    def to_served(self, obj: Object) -> Object:
        return self.conversion.to_served(obj) if self.conversion else obj

    @property
    def is_remote(self) -> bool:
        """Whether a webhook converts what is kept to what is served."""
        return self.conversion is not None and self.conversion.is_remote

    def selects(self, wanted: Selection, entry: Entry) -> bool:
        """Whether a selector means an object, as this version shows it. Errors: NeedsConversion."""
        if not self.is_remote:
            return wanted.matches(entry.namespace, entry.name, entry.selected)
        # Its fields are others, and a webhook may change labels.
        return wanted.matches(entry.namespace, entry.name, lambda: self.picker.pick(self.served_bytes(entry.data)))

    async def ready(self, core: Core, entries: Iterable[bytes]) -> None:
        """Makes known what a webhook has to convert, before these objects are shown."""
        if self.is_remote:
            objects = [encoding.decode(data) for data in entries]
            await core.conversions.ready(self.resource, objects, self.resource.api_version)

    def rendered(self, _: Entry, data: bytes) -> bytes:
        """The render function of this version: the same for all watches, which share their frames by it."""
        return self.served_bytes(data)

    def served_bytes(self, data: bytes) -> bytes:
        """Stored bytes as this version shows them."""
        if self.conversion is None:
            return data
        obj = self.conversion.to_served(encoding.decode(data))
        return encoding.encode_as_is(obj)
