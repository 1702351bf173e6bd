"""downwardAPI volumes: fields of the pod as files that follow it. Source: API reference, DownwardAPIVolumeSource."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.kubelet import downwardapi
from orchestrator.kubelet.downwardapi import FieldError
from orchestrator.kubelet.volumes import files
from orchestrator.kubelet.volumes.atomicwriter import File
from orchestrator.kubelet.volumes.volume import Mounted, Place, Volume, VolumeFailure


async def mount(volume: Volume, place: Place) -> Mounted:
    source = volume["downwardAPI"]
    payload = payload_of(source.get("items") or (), place, source.get("defaultMode", files.DEFAULT_MODE))
    return await files.write(place, place.dirs.volume("downward-api", volume["name"]), payload)


def payload_of(items: Iterable[Mapping[str, Any]], place: Place, default_mode: int) -> dict[str, File]:
    found: dict[str, File] = {}
    for item in items:
        try:
            if "fieldRef" in item:
                path = item["fieldRef"]["fieldPath"]
                value = downwardapi.field(place.pod, path, place.facts, place.pod_ips)
            else:
                value = downwardapi.resource(place.pod, item["resourceFieldRef"], "", place.facts)
        except FieldError as error:
            raise VolumeFailure(str(error)) from error
        mode = item.get("mode")
        found[item["path"]] = File(value.encode(), default_mode if mode is None else mode)
    return found
