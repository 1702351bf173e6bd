"""What a kind of resource implements, and what it is given: the terms of `server.py`.

Inputs are what the program asks, checked and with defaults filled in. Outputs are the inputs and what libvirt chose.
`old` inputs are those of the state: after a refresh they are what libvirt really has, so that drift is a difference.
Errors: ProviderError for what the user must act on; InitializationFailed where the thing is there but not yet as asked
(Pulumi saves it, and the next update tries again).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from infra.provider.properties import Values


class ProviderError(RuntimeError):
    """What was tried, on which resource, and what to do."""


class InitializationFailed(RuntimeError):
    """The resource exists and is not yet as asked: `id` and `outputs` are what there is; `inputs` as a read saw them,
    and None where they are those of the call."""

    def __init__(self, reason: str, id: str, outputs: Values, inputs: Values | None = None) -> None:
        super().__init__(reason)
        self.id = id
        self.outputs = outputs
        self.inputs = inputs


@dataclass(frozen=True, slots=True)
class Failure:
    """A refused input: the property's path, and why. What another property would cure, names that one in `cures`:
    while it is unknown (in a preview), nothing is refused."""

    path: str
    reason: str
    cures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """One call about one resource."""

    urn: str
    uri: str
    connection: Any  # libvirt.virConnect
    say: Callable[[str], None]  # a status line that the next one replaces
    note: Callable[[str], None]  # a line that stays
    warn: Callable[[str], None]
    timeout_s: float = 0.0  # what the program's custom timeout allows; 0 is ours to choose
    cancelled: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.monotonic


class Resource(Protocol):
    """One kind of resource."""

    @property
    def token(self) -> str:
        """As Pulumi names the kind: libvirt:index/domain:Domain."""
        ...

    @property
    def word(self) -> str:
        """As messages name it: domain."""
        ...

    @property
    def inputs(self) -> type[Any]:
        """A msgspec.Struct of all properties."""
        ...

    @property
    def defaults(self) -> Mapping[str, Any]: ...

    @property
    def replaces(self) -> frozenset[str]:
        """Paths without indices (`dns.enabled`): a change of one, or of what is in it, makes the resource anew."""
        ...

    @property
    def replaces_if_unknown(self) -> frozenset[str]:
        """Such paths whose new value is that of a resource which is made anew itself."""
        ...

    @property
    def computed(self) -> frozenset[str]:
        """Such paths that libvirt fills in where the program does not."""
        ...

    @property
    def secret(self) -> frozenset[str]:
        """Top-level properties that are always secrets."""
        ...

    def normalize(self, inputs: Values) -> Values:
        """The inputs as libvirt would spell them, so that a spelling is no difference; unknown values as they are."""
        ...

    def check(self, inputs: Values, old: Values) -> list[Failure]:
        """Rules beyond types; what is unknown in a preview has been left out of `inputs`. `old` is the state's."""
        ...

    def consequences(self, changed: frozenset[str], old: Values, new: Values) -> list[str]:
        """What the user should know before this change is made, a line each. ProviderError: it cannot be made."""
        ...

    def create(self, context: Context, inputs: Values) -> tuple[str, Values]:
        """Make it, or adopt what carries our mark; its id and outputs."""
        ...

    def read(self, context: Context, id: str, inputs: Values, outputs: Values) -> tuple[str, Values, Values] | None:
        """Its id, inputs and outputs as libvirt has them; None: it is gone. Without inputs it is an import."""
        ...

    def update(self, context: Context, id: str, old: Values, outputs: Values, inputs: Values) -> Values: ...

    def delete(self, context: Context, id: str, outputs: Values) -> None: ...
