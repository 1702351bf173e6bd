"""What every pod worker shares: the adapters and services of this kubelet, put together once in `main.py`."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from msgspec import Struct

from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.client.client import Client
from orchestrator.client.events import EventRecorder
from orchestrator.kubelet.config import Config
from orchestrator.kubelet.dirs import Dirs
from orchestrator.kubelet.disks import Disks
from orchestrator.kubelet.downwardapi import NodeFacts
from orchestrator.kubelet.etcfiles import Resolver
from orchestrator.kubelet.handlers import Handlers
from orchestrator.kubelet.images import Images
from orchestrator.kubelet.objects import Objects
from orchestrator.kubelet.porter import Porter
from orchestrator.kubelet.runtime.interface import Runtime
from orchestrator.kubelet.statuswriter import StatusWriter
from orchestrator.kubelet.tokens import Tokens


class Surroundings(Struct, frozen=True, kw_only=True):
    """`node` gives this node's object as the API has it, `services` all Services, `admitted` the pods that count
    against the node's resources, without the one that asks, `mirror` what stands for a pod in the API. `room_made` is
    told when a pod gives back resources, or may have."""

    config: Config
    dirs: Dirs
    clock: Clock
    random: Random
    client: Client
    recorder: EventRecorder
    runtime: Runtime
    porter: Porter
    disks: Disks
    images: Images
    objects: Objects
    tokens: Tokens
    handlers: Handlers
    statuses: StatusWriter
    facts: Callable[[], NodeFacts]
    node: Callable[[], Object | None]
    services: Callable[[], list[Object]]
    admitted: Callable[[str], list[Object]]
    mirror: Callable[[Object], Object | None]
    room_made: Callable[[], None]
    resolver: Callable[[], Resolver]
    memory_capacity_bytes: int
