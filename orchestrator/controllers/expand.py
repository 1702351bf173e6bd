"""Says of a claim that is to grow who will see to it: the resizer of its volume's driver, never this controller.

Source: the expand controller of Kubernetes, which has nothing else to do for volumes of CSI drivers.
"""

from __future__ import annotations

from orchestrator.api import meta, quantity, volumes
from orchestrator.api.meta import Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orchestrator.client.loop import Loop
from orchestrator.controllers.context import Context
from orchestrator.controllers.fields import spec, status_of

IGNORED = (
    "Ignoring the PVC: didn't find a plugin capable of expanding the volume; "
    "waiting for an external controller to process this PVC."
)


def has_grown(old: Object | None, new: Object | None) -> bool:
    """The claim was bound and asks for more than it did."""
    if old is None or new is None or status_of(new).get("phase") != "Bound":
        return False
    before, after = (quantity.parse(_requested(claim)) for claim in (old, new))
    return after > before


def _requested(claim: Object) -> str:
    return str(((spec(claim).get("resources") or {}).get("requests") or {}).get("storage") or "0")


class ExpandController:
    """Follows claims."""

    def __init__(self, context: Context) -> None:
        self._recorder = context.recorder("volume_expand")
        self.loop = Loop("volume-expand", self.reconcile, workers=1)
        self._claims = context.informers.informer(PERSISTENTVOLUMECLAIMS)
        self._volumes = context.informers.informer(PERSISTENTVOLUMES)
        self._claims.add_handler(
            lambda old, new: self.loop.queue.add(meta.key(new or {})) if has_grown(old, new) else None
        )

    async def run(self) -> None:
        await self.loop.run()

    async def reconcile(self, key: str) -> None:
        claim = self._claims.cache.get(key)
        volume = self._volumes.cache.get(spec(claim or {}).get("volumeName") or "")
        if claim is not None and volume is not None and volumes.csi(volume):
            self._recorder.event(claim, "Normal", "ExternalExpanding", IGNORED)
