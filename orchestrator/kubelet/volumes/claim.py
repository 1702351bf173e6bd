"""persistentVolumeClaim and ephemeral volumes: the claim's volume, then as that volume's own type.

The claim must be bound and owned by the pod where it is an ephemeral one. Types on this node: the lab's disks (csi),
hostPath, local, nfs. Claims and volumes are asked for one by one: a node may get them, and may not watch them.
Source: API reference, PersistentVolumeClaimVolumeSource, EphemeralVolumeSource.
"""

from __future__ import annotations

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from orchestrator.api.status import NotFound
from orchestrator.kubelet.volumes import csi, nfs
from orchestrator.kubelet.volumes.volume import Mounted, Place, Volume, VolumeFailure


async def mount(volume: Volume, place: Place) -> Mounted:
    source = volume["persistentVolumeClaim"]
    return await _mount_claim(source["claimName"], volume["name"], place, read_only=bool(source.get("readOnly")))


async def mount_ephemeral(volume: Volume, place: Place) -> Mounted:
    name = f"{meta.name(place.pod)}-{volume['name']}"
    claim = await _claim(name, place)
    if not meta.is_controlled_by(claim, place.pod):
        raise VolumeFailure(f"PVC {meta.key(claim)} was not created for pod {meta.key(place.pod)} (pod is not owner)")
    return await _mount_claim(name, volume["name"], place, read_only=False)


async def _claim(name: str, place: Place) -> Object:
    try:
        return await place.client.get(PERSISTENTVOLUMECLAIMS, name, meta.namespace(place.pod))
    except NotFound as error:
        raise VolumeFailure(f'persistentvolumeclaim "{name}" not found') from error


async def _mount_claim(claim_name: str, volume_name: str, place: Place, *, read_only: bool) -> Mounted:
    claim = await _claim(claim_name, place)
    bound_to = (claim.get("spec") or {}).get("volumeName")
    if not bound_to or (claim.get("status") or {}).get("phase") != "Bound":
        raise VolumeFailure(f"PVC {meta.key(claim)} is not bound")
    try:
        persistent = await place.client.get(PERSISTENTVOLUMES, bound_to)
    except NotFound as error:
        raise VolumeFailure(f'persistentvolume "{bound_to}" not found') from error
    if "csi" in persistent["spec"]:
        return await csi.mount(claim, persistent, volume_name, place, read_only=read_only)
    mounted = await _mount_source(persistent["spec"], volume_name, place)
    return Mounted(mounted.path, read_only=mounted.read_only or read_only)


async def _mount_source(spec: Object, name: str, place: Place) -> Mounted:
    if "nfs" in spec:
        return await nfs.mount({"name": name, "nfs": spec["nfs"]}, place, spec.get("mountOptions") or ())
    for kind in ("hostPath", "local"):  # taken as they are: the porter makes what a pod names itself, and no more
        if kind in spec:
            return Mounted(spec[kind]["path"])
    kinds = sorted(set(spec) - {"capacity", "accessModes", "claimRef", "persistentVolumeReclaimPolicy"})
    raise VolumeFailure(f"no volume plugin matched (volume has {', '.join(kinds)})")
