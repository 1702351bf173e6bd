"""Rotation of container logs: a file that has grown too large is renamed, and the runtime begins a new one of its name.

    0.log  0.log.20261125-130405  0.log.20261125-121500 …       at most `FILES_MAX` in all, of about SIZE_MAX_BYTES

Nobody loses a line: who has the old file open reads it to its end. Source: Kubernetes docs, "Logging architecture"
(containerLogMaxSize 10Mi, containerLogMaxFiles 5).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.api.clock import Clock
from orchestrator.kubelet.runtime.interface import Runtime, RuntimeFailure

log = logging.getLogger(__name__)

SIZE_MAX_BYTES = 10 * 2**20
FILES_MAX = 5
LOOK_S = 10.0


def too_large(logs: Path, size_max_bytes: int) -> Iterator[tuple[str, str, int, Path]]:
    """(pod uid, container, attempt, file) of the logs that want to be rotated."""
    for file in logs.glob("*/*/*.log"):
        try:
            if file.stat().st_size > size_max_bytes and file.stem.isdigit():
                yield file.parent.parent.name.rpartition("_")[2], file.parent.name, int(file.stem), file
        except OSError:
            continue  # its pod has just been removed


def surplus(files: Iterable[Path], files_max: int) -> list[Path]:
    """The oldest of a log's rotated files; the one that is written to counts as well."""
    return sorted(files, key=lambda file: file.name)[: -(files_max - 1)]


class LogRotation:
    def __init__(self, logs: Path, runtime: Runtime, clock: Clock) -> None:
        self._logs, self._runtime, self._clock = logs, runtime, clock

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.rotate()

    async def rotate(self, size_max_bytes: int = SIZE_MAX_BYTES, files_max: int = FILES_MAX) -> None:
        for uid, name, attempt, file in list(too_large(self._logs, size_max_bytes)):
            try:
                state = (await self._runtime.pod(uid)).latest(name)
                if state is None or state.attempt != attempt or not state.pid:
                    continue
                await self._rotate(state.id, file)
                for old in surplus(file.parent.glob(f"{file.name}.*"), files_max):
                    old.unlink(missing_ok=True)
            except (RuntimeFailure, OSError) as error:
                log.warning("log not rotated", extra={"file": str(file), "error": str(error)})

    async def _rotate(self, container_id: str, file: Path) -> None:
        stamp = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y%m%d-%H%M%S.%f")
        rotated = file.rename(file.with_name(f"{file.name}.{stamp}"))
        try:
            await self._runtime.reopen_log(container_id)
        except (RuntimeFailure, OSError):
            rotated.rename(file)  # it is still written to: let the next look try again
            raise
