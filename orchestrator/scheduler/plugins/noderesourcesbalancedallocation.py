"""NodeResourcesBalancedAllocation: better a node whose CPU and memory are used up alike.

The score is 100 less the standard deviation of the fractions in use (with two resources, half their difference). Pods
that ask for none of them are not scored: they change no balance, and would all go to one node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from orchestrator.scheduler.columns import Mask, Numbers
from orchestrator.scheduler.framework import SCORE_MAX, Cycle, Plugin
from orchestrator.scheduler.plugins.noderesourcesfit import Use, resource_weights, use_with
from orchestrator.scheduler.snapshot import Some


class NodeResourcesBalancedAllocation(Plugin):
    name = "NodeResourcesBalancedAllocation"

    def __init__(self, args: Mapping[str, Any] | None = None) -> None:
        self._resources = [name for name, _ in resource_weights((args or {}).get("resources"))]

    def score(self, cycle: Cycle, feasible: Mask) -> Numbers | None:
        asked = {name for name, _ in cycle.demand.requests}
        if asked.isdisjoint(self._resources):
            return None
        return cycle.snapshot.by_row((self, "score", cycle.demand), lambda rows: self._scores_of(cycle, rows))

    def _scores_of(self, cycle: Cycle, rows: Some) -> Numbers:
        uses = [use_with(cycle, resource, rows, with_defaults=False) for resource in self._resources]
        fractions = [_fraction(use) for use in uses if use is not None]
        if len(fractions) == 2 and all(use is None or use.has_some is None for use in uses):
            deviation = np.abs(fractions[0] - fractions[1]) / 2
        else:
            deviation = _deviation(np.array(fractions))
        return np.floor((1.0 - deviation) * SCORE_MAX)


def _fraction(use: Use) -> Numbers:
    """NaN where the node has none of the resource: it is left out of that node's balance."""
    fraction = np.minimum(use.used / use.capacity, 1.0)
    return fraction if use.has_some is None else np.where(use.has_some, fraction, np.nan)


def _deviation(fractions: Numbers) -> Numbers:
    counts = np.maximum((~np.isnan(fractions)).sum(axis=0), 1)
    means = np.nansum(fractions, axis=0) / counts
    return np.sqrt(np.nansum((fractions - means) ** 2, axis=0) / counts)
