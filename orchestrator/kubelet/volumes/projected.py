"""projected volumes: several sources in one folder, among them the pod's service account token.

A token's file is for the pod's user alone: mode 0600 and owned by that user where all containers run as one; with an
fsGroup 0640; else everybody may read it (0644), for nobody knows who will. Source: API reference,
ProjectedVolumeSource; KEP-1205.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.kubelet import securitycontext
from orchestrator.kubelet.tokens import EXPIRATION_S
from orchestrator.kubelet.volumes import configmap, downwardapi, files, memory, secret
from orchestrator.kubelet.volumes.atomicwriter import File
from orchestrator.kubelet.volumes.volume import Mounted, Place, Volume, VolumeFailure


async def mount(volume: Volume, place: Place) -> Mounted:
    projected = volume["projected"]
    default_mode = projected.get("defaultMode", files.DEFAULT_MODE)
    payload: dict[str, File] = {}
    owner = None
    for source in projected.get("sources") or ():
        payload |= await _payload(source, place, default_mode)
        if "serviceAccountToken" in source:
            owner = securitycontext.common_user(place.pod)
    folder = await memory.folder(place, "projected", volume["name"])
    return await files.write(place, folder, payload, owner or None)


async def _payload(source: Mapping[str, Any], place: Place, default_mode: int) -> dict[str, File]:
    if "configMap" in source:
        return await configmap.payload_of(source["configMap"], place, default_mode)
    if "secret" in source:
        return await secret.payload_of(source["secret"], source["secret"].get("name", ""), place, default_mode)
    if "downwardAPI" in source:
        return downwardapi.payload_of(source["downwardAPI"].get("items") or (), place, default_mode)
    if "serviceAccountToken" in source:
        return await _token(source["serviceAccountToken"], place)
    raise VolumeFailure(f"unsupported projection {', '.join(sorted(source))}")


async def _token(source: Mapping[str, Any], place: Place) -> dict[str, File]:
    expiration_s = source.get("expirationSeconds") or EXPIRATION_S
    token = await place.tokens.get(place.pod, source.get("audience") or "", expiration_s)
    return {source["path"]: File(token.text.encode(), _token_mode(place))}


def _token_mode(place: Place) -> int:
    if place.fs_group is not None:
        return 0o640
    return 0o600 if securitycontext.common_user(place.pod) is not None else 0o644
