"""All volumes of a pod: which plugin mounts which, and what a container then sees of them.

Volumes of files (configMap, secret, projected, downwardAPI) are brought up to date by mounting them again.
A sub-path is a path below the volume, made where it is missing; one that leads out of it (a link) is refused.
Source: Kubernetes docs, "Volumes"; kubelet's makeMounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.kubelet import expansion, podspec
from orchestrator.kubelet.podspec import Container
from orchestrator.kubelet.runtime.interface import Mount
from orchestrator.kubelet.volumes import (
    claim,
    configmap,
    downwardapi,
    emptydir,
    hostpath,
    image,
    nfs,
    projected,
    secret,
)
from orchestrator.kubelet.volumes.volume import Mounted, Place, Plugin, VolumeFailure

PLUGINS: dict[str, Plugin] = {
    "configMap": configmap.mount,
    "downwardAPI": downwardapi.mount,
    "emptyDir": emptydir.mount,
    "ephemeral": claim.mount_ephemeral,
    "hostPath": hostpath.mount,
    "image": image.mount,
    "nfs": nfs.mount,
    "persistentVolumeClaim": claim.mount,
    "projected": projected.mount,
    "secret": secret.mount,
}
LIVE = ("configMap", "downwardAPI", "projected", "secret")
PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}

Mounts = dict[str, Mounted]


async def mount_all(place: Place, *, live_only: bool = False) -> Mounts:
    """Every volume of the pod, by name. VolumeFailure says which one failed."""
    mounted: Mounts = {}
    for volume in podspec.spec(place.pod).get("volumes") or ():
        kind = next((kind for kind in volume if kind != "name"), "")
        if live_only and kind not in LIVE:
            continue
        plugin = PLUGINS.get(kind)
        if plugin is None:
            raise VolumeFailure(f'volume "{volume["name"]}": no volume plugin matched {kind or "nothing"!r}')
        try:
            mounted[volume["name"]] = await plugin(volume, place)
        except VolumeFailure as error:
            raise VolumeFailure(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}') from error
    return mounted


def has_live(pod: Mapping[str, Any]) -> bool:
    return any(kind in volume for volume in podspec.spec(dict(pod)).get("volumes") or () for kind in LIVE)


def container_mounts(container: Container, mounted: Mapping[str, Mounted], env: Mapping[str, str]) -> list[Mount]:
    devices = [_container_device(wanted, mounted) for wanted in container.get("volumeDevices") or ()]
    return [_container_mount(wanted, mounted, env) for wanted in container.get("volumeMounts") or ()] + devices


def _container_device(wanted: Mapping[str, Any], mounted: Mapping[str, Mounted]) -> Mount:
    found = mounted.get(wanted["name"])
    if found is None or not found.is_device:
        raise VolumeFailure(f"volume {wanted['name']} has volumeMode Filesystem, but is specified in volumeDevices")
    return Mount(source=found.path, destination=wanted["devicePath"], read_only=found.read_only, is_device=True)


def _container_mount(wanted: Mapping[str, Any], mounted: Mapping[str, Mounted], env: Mapping[str, str]) -> Mount:
    found = mounted.get(wanted["name"])
    if found is None:
        raise VolumeFailure(f'volume "{wanted["name"]}" not found')
    if found.is_device:
        raise VolumeFailure(f"volume {wanted['name']} has volumeMode Block, but is specified in volumeMounts")
    sub_path = wanted.get("subPath") or ""
    if wanted.get("subPathExpr"):
        if unknown := expansion.missing(wanted["subPathExpr"], env):
            raise VolumeFailure(f"missing value for {unknown[0]!r} in subPathExpr")
        sub_path = expansion.expand(wanted["subPathExpr"], env)
    destination = wanted["mountPath"] if wanted["mountPath"].startswith("/") else f"/{wanted['mountPath']}"
    read_only = found.read_only or bool(wanted.get("readOnly"))
    if found.is_image:
        return Mount(source=found.path, destination=destination, read_only=True, is_image=True, sub_path=sub_path)
    source = str(_below(Path(found.path), sub_path)) if sub_path else found.path
    propagation = PROPAGATION.get(wanted.get("mountPropagation") or "", "private")
    return Mount(source=source, destination=destination, read_only=read_only, propagation=propagation)  # type: ignore[arg-type]


def _below(volume: Path, sub_path: str) -> Path:
    """The path inside the volume; the volume's own links (..data) may be followed, to nowhere outside."""
    if sub_path.startswith("/") or ".." in Path(sub_path).parts:
        raise VolumeFailure(f"subPath {sub_path!r} must be a relative path below the volume")
    root = volume.resolve()
    target = (root / sub_path).resolve()
    if not target.is_relative_to(root):
        raise VolumeFailure(f"subPath {sub_path!r} leads out of the volume")
    try:
        if not target.exists():
            target.mkdir(parents=True)
    except OSError as error:
        raise VolumeFailure(f"failed to create subPath directory for volumeMount: {error}") from error
    return target
