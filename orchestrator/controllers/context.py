"""What a controller is given: the client, shared informers, the clock, and chance."""

from __future__ import annotations

from random import Random

from msgspec import Struct

from orchestrator.api.clock import Clock
from orchestrator.client.client import Client
from orchestrator.client.events import EventRecorder
from orchestrator.client.informer import Informers


class Context(Struct, frozen=True):
    client: Client
    informers: Informers
    clock: Clock
    random: Random

    def recorder(self, component: str) -> EventRecorder:
        """Events in the name of a controller, as upstream names it (`deployment-controller`)."""
        return EventRecorder(self.client, component, clock=self.clock)
