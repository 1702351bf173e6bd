"""What a cloud controller is given: the cloud, the client, shared informers, the clock."""

from __future__ import annotations

from msgspec import Struct

from orchestrator.api.clock import Clock
from orchestrator.client.client import Client
from orchestrator.client.events import EventRecorder
from orchestrator.client.informer import Informers
from orchestrator.cloud.provider import Cloud


class Context(Struct, frozen=True):
    cloud: Cloud
    client: Client
    informers: Informers
    clock: Clock

    def recorder(self, component: str) -> EventRecorder:
        """Events in the name of a controller, as upstream names it (`service-controller`)."""
        return EventRecorder(self.client, component, clock=self.clock)
