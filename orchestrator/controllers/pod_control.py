"""Creating and deleting the pods of a controller: in batches, with events, remembering what to expect.

Slow start: creations go out 1, 2, 4, 8, … at a time, and stop at the first batch with a failure, so that a quota or a
faulty template costs a few refused requests, not hundreds. Source: the ReplicaSet and Job controllers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODS
from orchestrator.client.client import Client
from orchestrator.client.events import EventRecorder
from orchestrator.controllers.expectations import Expectations


class PodControl:
    """Acts on pods in the name of one controller."""

    def __init__(self, client: Client, recorder: EventRecorder, expectations: Expectations) -> None:
        self._client = client
        self._recorder = recorder
        self._expectations = expectations

    async def create(self, key: str, owner: Object, pods: Sequence[Object]) -> None:
        """Creates all of them in slow-start batches; raises the first failure."""
        size, done = 1, 0
        while done < len(pods):
            batch = pods[done : done + size]
            results = await asyncio.gather(*(self._create(key, owner, pod) for pod in batch), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
            done += len(batch)
            size *= 2

    async def delete(self, key: str, owner: Object, pods: Sequence[Object]) -> None:
        self._expectations.deleting(key, pods)
        results = await asyncio.gather(*(self._delete(key, owner, pod) for pod in pods), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _create(self, key: str, owner: Object, pod: Object) -> None:
        try:
            created = await self._client.create(PODS, pod)
        except status.ApiError as error:
            if not is_terminating_namespace(error):
                self._recorder.event(owner, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self._expectations.written(key, created)
        self._recorder.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {meta.name(created)}")

    async def _delete(self, key: str, owner: Object, pod: Object) -> None:
        try:
            await self._client.delete(PODS, meta.name(pod), meta.namespace(pod), uid=meta.uid(pod))
        except status.NotFound:
            return  # the cache will show it
        except (status.ApiError, ConnectionError) as error:
            self._expectations.not_deleted(key, pod)
            self._recorder.event(owner, "Warning", "FailedDelete", f"Error deleting: {error}")
            raise
        self._recorder.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name(pod)}")


def is_terminating_namespace(error: status.ApiError) -> bool:
    """Whether a creation was refused because its namespace is being deleted: nothing to tell, nothing to retry."""
    return any(cause.reason == "NamespaceTerminating" for cause in error.causes)
