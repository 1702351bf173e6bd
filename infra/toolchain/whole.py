"""All tools of the VM lab: Pulumi's, and the hypervisor that the labs use, with the environment for both.

Everything is asked for at each start of a command, so what is there already must cost next to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.hypervisor import host
from infra.hypervisor.host import Hypervisor
from infra.images.tree import Progress
from infra.toolchain import tools


@dataclass(frozen=True)
class Toolchain:
    pulumi: Path
    version: str  # as 3.274.1
    origin: str  # words for the user
    bin: Path  # first on PATH: pulumi and what it looks for there
    environment: dict[str, str]  # to lay over the user's own
    hypervisor: Hypervisor


def ensure(say: Progress, user: Mapping[str, str] | None = None) -> Toolchain:
    """Everything present afterwards. `user`: the user's environment. Raises ToolchainError, HypervisorError."""
    user = os.environ if user is None else user
    found = tools.ensure(say, user=user)
    hypervisor = host.ensure(say, user)
    return Toolchain(
        pulumi=found.pulumi,
        version=found.version,
        origin=found.origin,
        bin=found.bin,
        environment=found.environment(hypervisor.uri, user),
        hypervisor=hypervisor,
    )
