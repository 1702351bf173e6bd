"""ImageLocality: better a node that already has the Pod's images, the more so the larger they are.

An image counts by its size times the share of nodes that have it, so that one popular node does not attract every Pod.
The sum is scaled between 23 MB and 1 GB for each container.
"""

from __future__ import annotations

import numpy as np

from orchestrator.scheduler.columns import Mask, Numbers
from orchestrator.scheduler.framework import SCORE_MAX, Cycle, Plugin

SIZE_MIN_BYTES = 23 * 2**20
SIZE_MAX_BYTES = 1000 * 2**20  # for each container


class ImageLocality(Plugin):
    name = "ImageLocality"

    def score(self, cycle: Cycle, feasible: Mask) -> Numbers | None:
        key = (self.name, cycle.demand.images)
        answers = cycle.snapshot.node_answers
        if key not in answers:
            cycle.snapshot.remember(key, _scores(cycle))
        found: Numbers | None = answers[key]
        return found


def _scores(cycle: Cycle) -> Numbers | None:
    snapshot, images = cycle.snapshot, cycle.demand.images
    sums = np.zeros(snapshot.capacity)
    for image in images:
        sizes = snapshot.images.get(image)
        if sizes:
            rows = np.fromiter(sizes, np.intp, len(sizes))
            share = len(sizes) / snapshot.node_count
            sums[rows] += np.floor(np.fromiter(sizes.values(), np.float64, len(sizes)) * share)
    largest = SIZE_MAX_BYTES * len(images)
    if not sums.any() or sums.max() <= SIZE_MIN_BYTES:
        return None
    clipped = np.clip(sums, SIZE_MIN_BYTES, largest)
    return np.floor(SCORE_MAX * (clipped - SIZE_MIN_BYTES) / (largest - SIZE_MIN_BYTES))
