"""What a cluster needs to know of our disks: the CSIDriver, and a StorageClass `standard` that claims get by default.

The class is the user's once it has been made: the driver's object notes that it was, and one that the user deleted does
not come back. Source: API reference, CSIDriver, StorageClass; Concepts, "Default StorageClass".
"""

from __future__ import annotations

import asyncio
import logging

from orchestrator.api import meta, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import CSIDRIVERS, STORAGECLASSES
from orchestrator.api.volumes import DISK_DRIVER
from orchestrator.cloud.context import Context

log = logging.getLogger(__name__)

CLASS_NAME = "standard"
CLASS_MADE = f"{DISK_DRIVER}/storage-class-made"
RETRY_S = 2.0

DRIVER: Object = {
    "metadata": {"name": DISK_DRIVER},
    "spec": {"attachRequired": True, "podInfoOnMount": False, "fsGroupPolicy": "File"},
}
CLASS: Object = {
    "metadata": {"name": CLASS_NAME, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": DISK_DRIVER,
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "WaitForFirstConsumer",
    "allowVolumeExpansion": True,
}


class VolumeDriver:
    """Runs once, at the start."""

    def __init__(self, context: Context) -> None:
        self._client = context.client

    async def run(self) -> None:
        while True:
            try:
                await self._ensure()
                return
            except (status.ApiError, ConnectionError) as error:
                log.warning("storage class not made", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)

    async def _ensure(self) -> None:
        try:
            driver = await self._client.get(CSIDRIVERS, DISK_DRIVER)
        except status.NotFound:
            driver = await self._client.create(CSIDRIVERS, DRIVER)
        if CLASS_MADE in meta.annotations(driver):
            return
        try:
            await self._client.create(STORAGECLASSES, CLASS)
            log.info("storage class made", extra={"class": CLASS_NAME})
        except status.AlreadyExists:
            log.debug("storage class exists", extra={"class": CLASS_NAME})
        patch = {"metadata": {"annotations": {CLASS_MADE: CLASS_NAME}}}
        await self._client.patch(CSIDRIVERS, DISK_DRIVER, "", patch)
