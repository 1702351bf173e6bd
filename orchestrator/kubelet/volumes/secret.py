"""secret volumes: each key a file, in memory (a tmpfs that the porter mounts). Source: SecretVolumeSource."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from orchestrator.api.meta import Object
from orchestrator.api.resources import SECRETS
from orchestrator.api.status import NotFound
from orchestrator.kubelet.volumes import files, memory
from orchestrator.kubelet.volumes.atomicwriter import File
from orchestrator.kubelet.volumes.volume import Mounted, Place, Volume, VolumeFailure


async def mount(volume: Volume, place: Place) -> Mounted:
    source = volume["secret"]
    mode = source.get("defaultMode", files.DEFAULT_MODE)
    payload = await payload_of(source, source.get("secretName", ""), place, mode)
    folder = await memory.folder(place, "secret", volume["name"])
    return await files.write(place, folder, payload)


async def payload_of(source: Mapping[str, Any], name: str, place: Place, default_mode: int) -> dict[str, File]:
    optional = bool(source.get("optional"))
    try:
        found = await place.get(SECRETS, name)
    except NotFound as error:
        if optional:
            return {}
        raise VolumeFailure(f'secret "{name}" not found') from error
    missing = "references non-existent secret key"
    return files.chosen(data_of(found), source.get("items"), default_mode, missing=missing, optional=optional)


def data_of(secret: Object) -> dict[str, bytes]:
    return {key: base64.b64decode(value or "") for key, value in (secret.get("data") or {}).items()}
