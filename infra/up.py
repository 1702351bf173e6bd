"""What bringing a lab up ends with, on whatever it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.topology import Topology


@dataclass(frozen=True)
class Up:
    topology: Topology
    kubeconfig_file: Path  # the user's, which has the lab's context now
    context: str
    seconds: float
