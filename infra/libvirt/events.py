"""What Pulumi's engine says while it works, as lines for a person: one for each thing that changed, status lines in
between, and at the end what went wrong. Pure: events in, lines out.

Source: pulumi.automation.events (EngineEvent); an ephemeral diagnostic is a status line, which the next replaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

KINDS = {
    "libvirt:index/network:Network": "network",
    "libvirt:index/pool:Pool": "pool",
    "libvirt:index/volume:Volume": "volume",
    "libvirt:index/cloudInitDisk:CloudInitDisk": "cloud-init disk",
    "libvirt:index/domain:Domain": "machine",
    "pulumi-python:dynamic/sampan:Reservation": "name and place",
    "pulumi-python:dynamic/sampan:Keys": "keys",
    "pulumi-python:dynamic/sampan:Access": "kubeconfig and SSH key",
    "pulumi-python:dynamic/sampan:ClusterDisks": "cluster's disks",
    "pulumi-python:dynamic/sampan:CloudController": "cloud controller",
    "pulumi-python:dynamic/sampan:Drain": "drain",
    "pulumi-python:dynamic/sampan:NodeInstall": "node",
}
ALONE = ("name and place", "kubeconfig and SSH key", "cloud controller", "network", "pool", "cluster's disks")
DONE = {
    "create": "made",
    "update": "changed",
    "delete": "removed",
    "create-replacement": "made anew",
    "delete-replaced": "removed, to be made anew",
    "discard": "forgotten",
    "refresh": "looked at",
}
INSTALLED = {"create": "is Ready", "update": "is Ready again", "delete": "has left", "create-replacement": "is Ready"}


@dataclass(frozen=True)
class Line:
    kind: Literal["status", "progress", "done", "note", "error"]  # the first two pass, the others stay
    text: str


@dataclass
class Reader:
    """Turns events into lines; keeps the errors, so that the end can say them."""

    errors: list[str] = field(default_factory=list)
    changes: int = 0
    _began: dict[str, int] = field(default_factory=dict)  # by URN, seconds since the epoch

    def read(self, event: Any) -> Iterator[Line]:
        if (started := event.resource_pre_event) is not None:
            self._began[started.metadata.urn] = event.timestamp
            operation = str(getattr(started.metadata.op, "value", started.metadata.op))
            if what := described(started.metadata.type, started.metadata.urn, operation):
                yield Line("status", f"{what[0]} …")
        elif (ended := event.res_outputs_event) is not None:
            operation = str(getattr(ended.metadata.op, "value", ended.metadata.op))
            if what := described(ended.metadata.type, ended.metadata.urn, operation):
                self.changes += operation != "refresh"
                seconds = event.timestamp - self._began.get(ended.metadata.urn, event.timestamp)
                if operation != "refresh":
                    yield Line("done", f"{what[0]} {what[1]}" + (f" ({seconds} s)" if seconds else ""))
        elif (said := event.diagnostic_event) is not None:
            yield from self._diagnostic(said)

    def _diagnostic(self, said: Any) -> Iterator[Line]:
        text = said.message.strip()
        if not text or said.severity == "debug":
            return
        if said.ephemeral:
            yield Line("progress", text.splitlines()[-1])
        elif said.severity == "error":
            error = plain(text)
            if error and error not in self.errors:
                self.errors.append(error)
                yield Line("error", error)
        else:
            yield Line("note", text)


def described(kind: str, urn: str, operation: str) -> tuple[str, str] | None:
    """Subject and predicate of a step; None for one that is not worth a line."""
    what, done = KINDS.get(kind), DONE.get(operation)
    if what is None or done is None:
        return None
    name = urn.rpartition("::")[2]
    if what == "drain":
        return (f"node {name}", "is ready to restart") if operation == "update" else None
    if what == "node":
        return f"node {name}", INSTALLED.get(operation, done)
    return (what if what in ALONE else f"{what} {name}"), done


# What the engine and gRPC put around an error's own words.
_AROUND = ("Exception calling application: ", "update failed", "preview failed", "resource refresh failed")


def plain(text: str) -> str:
    """An error without the engine's frame; empty where only the frame was there."""
    for around in _AROUND:
        text = text.replace(around, "")
    return text.strip().removeprefix("error:").strip()
