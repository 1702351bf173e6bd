"""A taint of a device says since when it is there: pods that tolerate it for a while are evicted by that.

Source: KEP-5055; resource.k8s.io/v1 API reference, DeviceTaint, `timeAdded`.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.api import meta
from orchestrator.api.clock import Clock
from orchestrator.api.resources import RESOURCESLICES
from orchestrator.apiserver.handlers import Strategy
from orchestrator.apiserver.request import Attributes


class DeviceTaintTimes:
    """Where the client leaves the time out, it is that of the write."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def strategies(self) -> Mapping[str, Strategy]:
        return {RESOURCESLICES.group_resource: self}

    async def before_write(self, attributes: Attributes) -> None:
        spec = (attributes.object or {}).get("spec") or {}
        for device in spec.get("devices") or ():
            for taint in device.get("taints") or ():
                if not taint.get("timeAdded"):
                    taint["timeAdded"] = meta.format_time(self._clock.now())

    async def after_write(self, attributes: Attributes, *, succeeded: bool) -> None:
        """Nothing was taken, so there is nothing to give back."""
