"""A pod's resize, carried out: what the API wants is allocated when the node has it, then written to control groups.

Memory is not taken from under a container: a limit below what it uses is refused, and tried again. What users are told
is kept in the record's conditions, and in an event at each step. Errors: RuntimeUnavailable, for the pod's worker.
Source: kubelet's handlePodResourcesResize, doPodResizeAction and validateMemoryResizeAction.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.api import meta, quantity
from orchestrator.api.meta import Object
from orchestrator.kubelet import admission, limits, resize
from orchestrator.kubelet.podspec import Container
from orchestrator.kubelet.porter import PodKey
from orchestrator.kubelet.resize import IN_PROGRESS, PENDING, Resizing
from orchestrator.kubelet.runtime.interface import ContainerState, PodState, RuntimeFailure, RuntimeUnavailable
from orchestrator.kubelet.surroundings import Surroundings
from orchestrator.kubelet.usage import usage

RETRY_S = 180.0  # a deferred resize is tried again, also when nothing was seen to change
ERROR_RETRY_S = 10.0  # one that was refused: its usage may have fallen


class PodResize:
    """Of one pod. `retry_at`: when a desire that does not fit is looked at again."""

    def __init__(
        self, around: Surroundings, key: PodKey, record: Resizing, tell_pod: Callable[[str, str, str], None]
    ) -> None:
        self._around, self._key, self.record, self._tell_pod = around, key, record, tell_pod
        self.retry_at: float | None = None

    def decide(self, desired: Object) -> bool:
        """Whether the pod's allocation has become what the API has."""
        record, now, generation = self.record, self._around.clock.now(), meta.generation(desired)
        self.retry_at = None
        if resize.is_allocated(desired, record.allocated):
            record.pending = None
            return False
        node = self._around.node()
        if node is None:
            return False
        shortage = admission.fits_resources(desired, node, self._around.admitted(self._key.uid))
        if shortage is None:
            record.allocate(desired)
            record.pending = None
            record.in_progress = resize.condition(IN_PROGRESS, None, now, generation)
            self._tell_pod("Normal", "ResizeStarted", resize.told("started", desired, generation))
            return True
        before = record.pending
        record.pending = resize.condition(PENDING, before, now, generation, "Deferred", shortage.message)
        if before is None or before.get("observedGeneration") != generation:
            told = resize.told("Deferred", desired, generation, shortage.message)
            self._tell_pod("Warning", "ResizeDeferred", told)
        self.retry_at = now + RETRY_S
        return False

    async def actuate(self, pod: Object, state: PodState, container: Container, found: ContainerState) -> float | None:
        """Writes the container's limits; when to try again, where that was refused."""
        try:
            await self._check_memory(container, found)
            wanted = limits.container_limits(pod, container, self._around.config.pod_pids_max)
            await self._around.runtime.limit_container(state, found, wanted)
        except RuntimeUnavailable:
            raise
        except RuntimeFailure as error:
            return self._refused(pod, str(error))
        self.record.actuate(container)
        return None

    async def _check_memory(self, container: Container, found: ContainerState) -> None:
        before = self.record.actuated.get(container["name"]) or {}
        old, new = (
            quantity.ceil((resources.get("limits") or {}).get("memory", 0))
            for resources in (before, container.get("resources") or {})
        )
        if not new or (old and new >= old):
            return
        used = await usage(self._key, found, self._around.porter)
        if used is None:
            raise RuntimeFailure(f'cannot decrease memory limits: missing container "{found.name}" memory usage')
        if used.memory_bytes >= new:
            raise RuntimeFailure(
                f'cannot decrease memory limits: attempting to set container "{found.name}" memory limit ({new}) '
                f"below current usage ({used.memory_bytes})"
            )

    def _refused(self, pod: Object, message: str) -> float:
        record, now, before = self.record, self._around.clock.now(), self.record.in_progress
        generation = int((before or {}).get("observedGeneration") or meta.generation(pod))
        record.in_progress = resize.condition(IN_PROGRESS, before, now, generation, "Error", message)
        if before is None or before.get("message") != message:
            self._tell_pod("Warning", "ResizeError", resize.told("error", pod, generation, message))
        return now + ERROR_RETRY_S

    def conclude(self, pod: Object, state: PodState) -> None:
        """The resize is over once no running container is left to write."""
        if (condition := self.record.in_progress) is None or resize.is_outstanding(pod, self.record.actuated, state):
            return
        self.record.in_progress = None
        generation = int(condition.get("observedGeneration") or 0)
        self._tell_pod("Normal", "ResizeCompleted", resize.told("completed", pod, generation))
