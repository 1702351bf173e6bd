"""Broadcast: who watches which range, and how a watch that starts in the past joins the present without a gap.

A watch that must first replay history is registered at once but holds back what happens meanwhile; when the replay has
delivered everything up to the revision of its registration, the held events follow and it is live.
A sink runs on the event loop and must not raise.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.store.interface import Event, Sink


class Watch:
    __slots__ = ("held", "prefix", "sink")

    def __init__(self, prefix: str, sink: Sink, *, replaying: bool) -> None:
        self.prefix = prefix
        self.sink = sink
        self.held: list[Event] | None = [] if replaying else None

    def deliver(self, events: Sequence[Event]) -> None:
        wanted = events if not self.prefix else [event for event in events if event.key.startswith(self.prefix)]
        if not wanted:
            return
        if self.held is not None:
            self.held.extend(wanted)
        else:
            self.sink(wanted)

    def go_live(self) -> None:
        held, self.held = self.held, None
        if held:
            self.sink(held)


class Broadcast:
    def __init__(self) -> None:
        self._watches: dict[Watch, None] = {}

    def add(self, prefix: str, sink: Sink, *, replaying: bool) -> Watch:
        watch = Watch(prefix, sink, replaying=replaying)
        self._watches[watch] = None
        return watch

    def remove(self, watch: Watch) -> None:
        self._watches.pop(watch, None)

    def deliver(self, events: Sequence[Event]) -> None:
        for watch in tuple(self._watches):
            watch.deliver(events)
