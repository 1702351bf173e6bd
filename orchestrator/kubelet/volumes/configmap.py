"""configMap volumes: each key a file. Source: API reference, ConfigMapVolumeSource."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from orchestrator.api.meta import Object
from orchestrator.api.resources import CONFIGMAPS
from orchestrator.api.status import NotFound
from orchestrator.kubelet.volumes import files
from orchestrator.kubelet.volumes.atomicwriter import File
from orchestrator.kubelet.volumes.volume import Mounted, Place, Volume, VolumeFailure


async def mount(volume: Volume, place: Place) -> Mounted:
    source = volume["configMap"]
    mode = source.get("defaultMode", files.DEFAULT_MODE)
    payload = await payload_of(source, place, mode)
    return await files.write(place, place.dirs.volume("configmap", volume["name"]), payload)


async def payload_of(source: Mapping[str, Any], place: Place, default_mode: int) -> dict[str, File]:
    name, optional = source.get("name", ""), bool(source.get("optional"))
    try:
        found = await place.get(CONFIGMAPS, name)
    except NotFound as error:
        if optional:
            return {}
        raise VolumeFailure(f'configmap "{name}" not found') from error
    missing = "configmap references non-existent config key"
    return files.chosen(data_of(found), source.get("items"), default_mode, missing=missing, optional=optional)


def data_of(config_map: Object) -> dict[str, bytes]:
    text = {key: value.encode() for key, value in (config_map.get("data") or {}).items()}
    return text | {key: base64.b64decode(value) for key, value in (config_map.get("binaryData") or {}).items()}
