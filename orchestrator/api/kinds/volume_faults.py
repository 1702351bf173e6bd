"""What can be wrong with a pod's volumes. `volumes` also returns the valid ones, which mounts may name.

Source: core/v1 API reference, Volume.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.api import quantity
from orchestrator.api.kinds import claim_faults, container_faults, faults, formats, metadata
from orchestrator.api.kinds.values import label_selector, name_of, one_of
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

MODE_RULE = "must be a number between 0 and 0777 (octal), both inclusive"
VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_ISCSI_NAME = r"iqn\.\d{4}-\d{2}\.([\w.-]+)(:[^,;*&$|\s]+)|eui\.[0-9a-f]{16}|naa\.[0-9a-f]{32}"
HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip


def volumes(found: Sequence[Json], path: str, pod_name: str = "") -> tuple[list[Cause], dict[str, Json]]:
    causes: list[Cause] = []
    valid: dict[str, Json] = {}
    created = {f"{pod_name}-{v.get('name')}" for v in found if pod_name and v.get("ephemeral") is not None}
    for index, volume in enumerate(found):
        at, name = f"{path}[{index}]", volume.get("name") or ""
        mine = _sources(volume, at)
        mine += name_of(name, f"{at}.name", formats.dns_label, required=True)
        if volume.get("ephemeral") is not None and pod_name and name:
            made = f"{pod_name}-{name}"
            whys = (f"PVC name {faults.shown(made)}: {why}" for why in formats.dns_subdomain(made))
            mine += faults.each(f"{at}.name", name, whys)
        if name in valid:
            mine.append(faults.duplicate(f"{at}.name", name))
        if not mine:
            valid[name] = volume
        causes += mine
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim in created:
            detail = "must not reference a PVC that gets created for an ephemeral volume"
            causes.append(faults.invalid(f"{at}.persistentVolumeClaim.claimName", claim, detail))
    return causes, valid


def _sources(volume: Json, path: str) -> list[Cause]:
    """Exactly one source."""
    given = [name for name in ORDER if volume.get(name) is not None]
    if not given:
        return [faults.required(path, "must specify a volume type")]
    causes: list[Cause] = []
    for position, name in enumerate(given):
        if position:
            causes.append(
                faults.forbidden(f"{path}.{MISSPELT.get(name, name)}", "may not specify more than 1 volume type")
            )
        elif name in SOURCES:
            causes += SOURCES[name](volume[name], f"{path}.{name}")
    return causes


def _empty_dir(source: Json, path: str) -> list[Cause]:
    limit = source.get("sizeLimit")
    if limit is not None and quantity.parse(limit) < 0:
        return [faults.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def _host_path(source: Json, path: str) -> list[Cause]:
    place = source.get("path") or ""
    if not place:
        return [faults.required(f"{path}.path")]
    causes = container_faults.no_backsteps(place, f"{path}.path")
    return causes + one_of(source.get("type"), f"{path}.type", HOST_PATH_TYPES, required=False)


def _secret(source: Json, path: str) -> list[Cause]:
    causes = [] if source.get("secretName") else [faults.required(f"{path}.secretName")]
    return causes + _mode(source, "defaultMode", path) + _items(source.get("items") or (), f"{path}.items")


def _config_map(source: Json, path: str) -> list[Cause]:
    causes = [] if source.get("name") else [faults.required(f"{path}.name")]
    return causes + _mode(source, "defaultMode", path) + _items(source.get("items") or (), f"{path}.items")


def _mode(holder: Json, name: str, path: str) -> list[Cause]:
    mode = holder.get(name)
    return [faults.invalid(f"{path}.{name}", mode, MODE_RULE)] if mode is not None and not 0 <= mode <= 0o777 else []


def _items(items: Sequence[Json], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, item in enumerate(items):
        at = f"{path}[{index}]"
        if not item.get("key"):
            causes.append(faults.required(f"{at}.key"))
        causes += _local_path(item.get("path") or "", f"{at}.path")
        causes += _mode(item, "mode", at)
    return causes


def _local_path(place: str, path: str) -> list[Cause]:
    """A relative path below the volume that does not use our own names (`..data`)."""
    if not place:
        return [faults.required(path)]
    causes = container_faults.descending_path(place, path)
    if place.startswith("..") and not place.startswith("../"):
        causes.append(faults.invalid(path, place, "must not start with '..'"))
    return causes


def _nfs(source: Json, path: str) -> list[Cause]:
    causes = [] if source.get("server") else [faults.required(f"{path}.server")]
    place = source.get("path") or ""
    if not place:
        causes.append(faults.required(f"{path}.path"))
    if not place.startswith("/"):
        causes.append(faults.invalid(f"{path}.path", place, "must be an absolute path"))
    return causes


def _iscsi(source: Json, path: str) -> list[Cause]:
    causes = [] if source.get("targetPortal") else [faults.required(f"{path}.targetPortal")]
    name = source.get("iqn") or ""
    if not name:
        causes.append(faults.required(f"{path}.iqn"))
    elif not name.startswith(("iqn", "eui", "naa")):
        causes.append(faults.invalid(f"{path}.iqn", name, "must be valid format starting with iqn, eui, or naa"))
    elif not re.fullmatch(
        r"iqn\.\d{4}-\d{2}\.([\w.-]+)(:[^,;*&$|\s]+)|eui\.[0-9a-f]{16}|naa\.[0-9a-f]{32}", name, re.I
    ):
        causes.append(faults.invalid(f"{path}.iqn", name, "must be valid format"))
    lun = source.get("lun", 0)
    if not 0 <= lun <= 255:
        causes.append(faults.invalid(f"{path}.lun", lun, formats.between(0, 255)))
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
        causes.append(faults.required(f"{path}.secretRef"))
    return causes


def _claim(source: Json, path: str) -> list[Cause]:
    return [] if source.get("claimName") else [faults.required(f"{path}.claimName")]


def _downward(source: Json, path: str) -> list[Cause]:
    causes = _mode(source, "defaultMode", path)
    for item in source.get("items") or ():
        causes += _downward_file(item, path)
    return causes


def _downward_file(item: Json, path: str) -> list[Cause]:
    causes = _local_path(item.get("path") or "", f"{path}.path")
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None:
        causes += container_faults.field_reference(field, f"{path}.fieldRef", VOLUME_FIELDS)
        if resource is not None:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            causes.append(faults.invalid(path, "resource", detail))
    elif resource is not None:
        causes += container_faults.resource_field(resource, f"{path}.resourceFieldRef", needs_container=True)
    else:
        causes.append(faults.required(path, "one of fieldRef and resourceFieldRef is required"))
    return causes + _mode(item, "mode", path)


def _projected(source: Json, path: str) -> list[Cause]:
    causes = _mode(source, "defaultMode", path)
    taken: set[str] = set()
    for index, projection in enumerate(source.get("sources") or ()):
        at = f"{path}.sources[{index}]"
        for kind, part in projection.items():
            if kind in PROJECTIONS and isinstance(part, dict):
                causes += PROJECTIONS[kind](part, f"{at}.{kind}", path)
                causes += _taken_paths(kind, part, path, taken)
        if len(projection) > 1:
            causes.append(faults.forbidden(at, "may not specify more than 1 volume type per source"))
    return causes


def _taken_paths(kind: str, part: Json, path: str, taken: set[str]) -> list[Cause]:
    places = [item.get("path") for item in part.get("items") or ()] or [part.get("path")]
    causes = []
    for place in filter(None, places):
        if place in taken:
            shown = part.get("name") if kind in ("secret", "configMap") else place
            causes.append(faults.invalid(path, shown, "conflicting duplicate paths"))
        taken.add(place)
    return causes


def _named_projection(part: Json, path: str, volume: str) -> list[Cause]:
    causes = [] if part.get("name") else [faults.required(f"{path}.name")]
    return causes + _items(part.get("items") or (), f"{path}.items")


def _downward_projection(part: Json, path: str, volume: str) -> list[Cause]:
    return [cause for item in part.get("items") or () for cause in _downward_file(item, path)]


def _token_projection(part: Json, path: str, volume: str) -> list[Cause]:
    seconds, causes = part.get("expirationSeconds", 3600), []
    if seconds < 600:
        detail = "may not specify a duration less than 10 minutes"
        causes.append(faults.invalid(f"{path}.expirationSeconds", seconds, detail))
    if seconds > 2**32:
        detail = "may not specify a duration larger than 2^32 seconds"
        causes.append(faults.invalid(f"{path}.expirationSeconds", seconds, detail))
    return causes + _local_path(part.get("path") or "", f"{volume}.path")


def _trust_bundle(part: Json, path: str, volume: str) -> list[Cause]:
    by_name, by_signer = part.get("name") is not None, part.get("signerName") is not None
    causes: list[Cause] = []
    if by_name and by_signer:
        causes.append(faults.invalid(path, part, "only one of name and signerName may be used"))
    elif not by_name and not by_signer:
        causes.append(faults.required(path, "either name or signerName must be specified"))
    causes += label_selector(part.get("labelSelector"), f"{path}.labelSelector")
    return causes + _local_path(part.get("path") or "", f"{path}.path")


PROJECTIONS: dict[str, Callable[[Json, str, str], list[Cause]]] = {
    "secret": _named_projection,
    "configMap": _named_projection,
    "downwardAPI": _downward_projection,
    "serviceAccountToken": _token_projection,
    "clusterTrustBundle": _trust_bundle,
}


def csi_driver(name: str, path: str) -> list[Cause]:
    if not name:
        return [faults.required(path)]
    causes = [faults.too_long(path, 63)] if len(name) > 63 else []
    return causes + faults.each(path, name, formats.dns_subdomain(name.lower()))


def _csi(source: Json, path: str) -> list[Cause]:
    causes = csi_driver(source.get("driver") or "", f"{path}.driver")
    secret = source.get("nodePublishSecretRef")
    if secret is not None and not secret.get("name"):
        causes.append(faults.required(f"{path}.nodePublishSecretRef.name"))
    return causes


def _ephemeral(source: Json, path: str) -> list[Cause]:
    template, path = source.get("volumeClaimTemplate"), f"{path}.volumeClaimTemplate"
    if template is None:
        return [faults.required(path)]
    causes = metadata.template(template.get("metadata") or {}, f"{path}.metadata")
    return causes + claim_faults.claim_spec(template.get("spec") or {}, f"{path}.spec")


def _image(source: Json, path: str) -> list[Cause]:
    return one_of(source.get("pullPolicy"), f"{path}.pullPolicy", ("Always", "IfNotPresent", "Never"))


# In which kube-apiserver looks at them; of all but SOURCES it is not checked what they say.
ORDER = (
    "emptyDir", "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret", "nfs", "iscsi",
    "glusterfs", "flocker", "persistentVolumeClaim", "rbd", "cinder", "cephfs", "quobyte", "downwardAPI", "fc",
    "configMap", "azureFile", "vsphereVolume", "photonPersistentDisk", "portworxVolume", "azureDisk", "storageos",
    "projected", "scaleIO", "csi", "ephemeral", "image",
)  # fmt: skip
MISSPELT = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}
SOURCES: dict[str, Callable[[Json, str], list[Cause]]] = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "secret": _secret,
    "nfs": _nfs,
    "iscsi": _iscsi,
    "persistentVolumeClaim": _claim,
    "downwardAPI": _downward,
    "configMap": _config_map,
    "projected": _projected,
    "csi": _csi,
    "ephemeral": _ephemeral,
    "image": _image,
}
