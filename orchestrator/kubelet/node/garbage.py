"""Garbage on the node: images that nothing uses when the disk fills, and folders of pods that are long gone.

Images go least recently seen in use first, from the high-water mark of disk use down to the low one; the sandbox image
and what a container (running or ended) was made from stay. Source: Kubernetes docs, "Garbage Collection" of images.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from orchestrator.api.clock import Clock
from orchestrator.kubelet.config import Config
from orchestrator.kubelet.runtime.interface import Image, Runtime, RuntimeFailure

log = logging.getLogger(__name__)

LOOK_S = 300.0


def images_to_remove(
    images: Sequence[Image], used: Iterable[str], last_used: Mapping[str, float], bytes_to_free: int
) -> list[Image]:
    """Which images to remove to free so much, the longest unused first. Pure."""
    in_use = set(used)
    candidates = sorted(
        (image for image in images if image.id not in in_use),
        key=lambda image: (last_used.get(image.id, 0.0), image.id),
    )
    chosen: list[Image] = []
    for image in candidates:
        if bytes_to_free <= 0:
            break
        chosen.append(image)
        bytes_to_free -= image.size_bytes
    return chosen


class GarbageCollector:
    def __init__(self, config: Config, runtime: Runtime, clock: Clock) -> None:
        self._config, self._runtime, self._clock = config, runtime, clock
        self._last_used: dict[str, float] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.collect()
            except RuntimeFailure as error:
                log.warning("images not collected", extra={"error": str(error)})

    async def collect(self) -> None:
        usage = shutil.disk_usage(Path(self._config.root_dir))
        images = await self._runtime.images()
        used = {
            f"sha256:{container.image_id.removeprefix('sha256:')}"
            for pod in await self._runtime.pods()
            for container in pod.containers
        }
        used |= {image.id for image in images if self._config.sandbox_image in image.names}
        now = self._clock.now()
        for image_id in used:
            self._last_used[image_id] = now
        if 100 * usage.used < self._config.image_gc_high_percent * usage.total:
            return
        to_free = usage.used - usage.total * self._config.image_gc_low_percent // 100
        for image in images_to_remove(images, used, self._last_used, to_free):
            try:
                await self._runtime.remove_image(image.id)
                log.info("image removed", extra={"image": image.names, "bytes": image.size_bytes})
            except RuntimeFailure as error:
                log.info("image not removed", extra={"image": image.names, "error": str(error)})
