"""Static pods: manifests in a folder of the node, and their mirrors in the API.

A static pod is called `<name>-<node>`; its uid is a digest of the manifest and the node, so a changed manifest is
another pod. The API holds a *mirror pod* with the same name, so that users see it; deleting a mirror only makes it come
back. Folders are read every few seconds by names and times of change alone. A file that cannot be read as a Pod is
logged and left out. Source: Kubernetes docs, "Create static Pods".
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import yaml

from orchestrator.api import meta
from orchestrator.api.meta import Object

log = logging.getLogger(__name__)

SCAN_S = 2.0
SUFFIXES = (".yaml", ".yml", ".json")
HASH, SOURCE, SEEN, MIRROR = (f"kubernetes.io/config.{word}" for word in ("hash", "source", "seen", "mirror"))
TOLERATES_ALL = {"operator": "Exists", "effect": "NoExecute"}


class Manifests:
    """The static pods of a folder. `scan` tells whether anything has changed."""

    def __init__(self, folder: Path, node_name: str, now: Callable[[], float]) -> None:
        self._folder, self._node_name, self._now = folder, node_name, now
        self._stamps: dict[str, tuple[int, int]] = {}
        self.pods: dict[str, Object] = {}  # by uid

    def scan(self) -> bool:
        stamps = self._read_stamps()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        found: dict[str, Object] = {}
        for name in sorted(stamps):
            pod = self._read(self._folder / name)
            if pod is not None:
                kept = self.pods.get(meta.uid(pod))
                found[meta.uid(pod)] = kept or pod
        changed = found.keys() != self.pods.keys()
        self.pods = found
        return changed

    def _read_stamps(self) -> dict[str, tuple[int, int]]:
        try:
            files = [file for file in self._folder.iterdir() if file.suffix in SUFFIXES and file.name[0] != "."]
            return {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in files}
        except FileNotFoundError:
            return {}

    def _read(self, file: Path) -> Object | None:
        try:
            manifest = yaml.safe_load(file.read_text())
            if manifest.get("kind") != "Pod" or not manifest.get("spec", {}).get("containers"):
                raise ValueError("not a Pod with containers")
            return static_pod(manifest, self._node_name, meta.format_time(self._now()))
        except (OSError, yaml.YAMLError, ValueError, AttributeError) as error:
            log.warning("manifest left out", extra={"file": str(file), "error": str(error)})
            return None


def static_pod(manifest: Object, node_name: str, seen: str) -> Object:
    digest = hashlib.md5(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS) + node_name.encode()).hexdigest()
    described = meta.metadata(manifest)
    spec: dict[str, Any] = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "securityContext": {},
        "schedulerName": "default-scheduler",
        **manifest["spec"],
        "nodeName": node_name,
    }
    spec["tolerations"] = [*(spec.get("tolerations") or []), TOLERATES_ALL]
    annotations = {**(described.get("annotations") or {}), HASH: digest, SOURCE: "file", SEEN: seen}
    metadata = {
        **described,
        "name": f"{described.get('name', '')}-{node_name}",
        "namespace": described.get("namespace") or "default",
        "uid": digest,
        "annotations": annotations,
        "creationTimestamp": seen,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}


def mirror_of(pod: Object, node: Object) -> Object:
    """What stands for a static pod in the API; it goes when the node goes."""
    described = {key: value for key, value in meta.metadata(pod).items() if key not in ("uid", "creationTimestamp")}
    annotations = {**meta.annotations(pod), MIRROR: meta.annotations(pod)[HASH]}
    owner = meta.owner_reference({"apiVersion": "v1", "kind": "Node", **node}) | {"blockOwnerDeletion": False}
    return {**pod, "metadata": {**described, "annotations": annotations, "ownerReferences": [owner]}, "status": {}}


def is_mirror(pod: Object) -> bool:
    return MIRROR in meta.annotations(pod)


def is_static(pod: Object) -> bool:
    return meta.annotations(pod).get(SOURCE) == "file" and not is_mirror(pod)
