"""A Node's status: what the kubelet says of its machine. Pure, but for `measure`.

Conditions: Ready (the runtime answers and the porter too), and the three pressures. A condition's heartbeat moves with
every report, its transition time only when the status does. Taints for pressures are the node controller's.
Source: API reference, NodeStatus; Kubernetes docs, "Node status", "Node-pressure eviction".
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from orchestrator.api import conditions, meta
from orchestrator.api.meta import Object
from orchestrator.kubelet.config import KUBELET_VERSION, Config
from orchestrator.kubelet.node import capacity
from orchestrator.kubelet.runtime.interface import Image

Status = dict[str, Any]
UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"  # until a cloud controller has completed the Node
PROVIDED_NODE_IP = "alpha.kubernetes.io/provided-node-ip"
MEMORY_AVAILABLE_MIN_KIB = 100 * 1024
DISK_AVAILABLE_MIN_PERCENT = 10
PIDS_AVAILABLE_MIN_PERCENT = 5
IMAGES_MAX, IMAGE_NAMES_MAX = 50, 5
# What the scheduler and the API server of v1.36 ask of a node before a pod may need it (KEP-5328).
DECLARED_FEATURES = ("InPlacePodVerticalScalingInitContainers", "RestartAllContainersOnContainerExits")


class Measured(Struct, frozen=True, kw_only=True):
    """`runtime_error` and `porter_error` are "" where all is well; `enforces`: the limits that hold on this node."""

    runtime_version: str
    runtime_error: str
    porter_error: str
    enforces: tuple[str, ...]
    memory_available_kib: int
    disk_available_percent: float
    pids_available_percent: float
    capacity: Mapping[str, str]
    allocatable: Mapping[str, str]
    machine: Mapping[str, str]
    images: Sequence[Image] = ()


def node_status(config: Config, measured: Measured, previous: Mapping[str, Any], now: float) -> Status:
    made: Status = {
        "capacity": dict(measured.capacity),
        "allocatable": dict(measured.allocatable),
        "addresses": _addresses(config, previous),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port}},
        "nodeInfo": {
            **measured.machine,
            "containerRuntimeVersion": f"podman://{measured.runtime_version}",
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
        },
        "declaredFeatures": [*DECLARED_FEATURES],
        "images": [_image(image) for image in sorted(measured.images, key=lambda image: -image.size_bytes)][
            :IMAGES_MAX
        ],
    }
    made["conditions"] = _conditions(measured, previous.get("conditions") or [], meta.format_time(now))
    return made


def _addresses(config: Config, previous: Mapping[str, Any]) -> list[Status]:
    """Ours until a cloud controller has said what they are."""
    own = [{"type": "InternalIP", "address": address} for address in config.node_ips]
    own.append({"type": "Hostname", "address": config.node_name})
    return previous.get("addresses") or own if config.cloud_provider else own


def _image(image: Image) -> Status:
    return {"names": [*image.digests, *image.names][:IMAGE_NAMES_MAX], "sizeBytes": image.size_bytes}


def _conditions(measured: Measured, previous: list[Status], now: str) -> list[Status]:
    short_of_memory = measured.memory_available_kib < MEMORY_AVAILABLE_MIN_KIB
    short_of_disk = measured.disk_available_percent < DISK_AVAILABLE_MIN_PERCENT
    short_of_pids = measured.pids_available_percent < PIDS_AVAILABLE_MIN_PERCENT
    wanted = [
        _pressure("MemoryPressure", short_of_memory, "Memory", "memory available"),
        _pressure("DiskPressure", short_of_disk, "Disk", "disk space available"),
        _pressure("PIDPressure", short_of_pids, "PID", "PID available"),
        _limits(measured),
        _ready(measured),
    ]
    made: list[Status] = []
    for condition in wanted:
        old = [found for found in previous if found["type"] == condition["type"]]
        made.append({**conditions.updated(old, condition, now)[0], "lastHeartbeatTime": now})
    return made


def _pressure(kind: str, is_short: bool, noun: str, what: str) -> Status:
    if is_short:
        return {
            "type": kind,
            "status": "True",
            "reason": f"KubeletHasInsufficient{noun}",
            "message": f"kubelet has insufficient {what}",
        }
    positive = "KubeletHasNoDiskPressure" if kind == "DiskPressure" else f"KubeletHasSufficient{noun}"
    text = "kubelet has no disk pressure" if kind == "DiskPressure" else f"kubelet has sufficient {what}"
    return {"type": kind, "status": "False", "reason": positive, "message": text}


def _limits(measured: Measured) -> Status:
    """A node that cannot hold containers to their limits says so, and runs them all the same."""
    missing = [name for name in ("cpu", "memory", "pids") if name not in measured.enforces]
    if missing:
        return {
            "type": "LimitsUnenforced",
            "status": "True",
            "reason": "ControllersMissing",
            "message": f"limits are not enforced on this node: no control group for {', '.join(missing)}",
        }
    return {
        "type": "LimitsUnenforced",
        "status": "False",
        "reason": "ControllersPresent",
        "message": "limits of containers are enforced",
    }


def _ready(measured: Measured) -> Status:
    problems = [
        f"container runtime is down: {measured.runtime_error}" if measured.runtime_error else "",
        f"container runtime network not ready: {measured.porter_error}" if measured.porter_error else "",
    ]
    problems = [problem for problem in problems if problem]
    if problems:
        message = ", ".join(problems)
        return {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": message}
    message = "kubelet is posting ready status"
    return {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": message}


def is_same(before: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    """Whether only heartbeats differ."""
    plain = {key: value for key, value in status.items() if key != "conditions"}
    if any(before.get(key) != value for key, value in plain.items()):
        return False
    shown = ("status", "reason", "message")
    return all(
        (old := conditions.find(before.get("conditions"), condition["type"])) is not None
        and all(old.get(field) == condition.get(field) for field in shown)
        for condition in status["conditions"]
    )


def machine() -> dict[str, str]:
    """What a node says of its kernel and system."""
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "bootID": _read("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": platform.release(),
        "machineID": _read("/etc/machine-id"),
        "osImage": release.get("PRETTY_NAME", "Linux"),
        "systemUUID": _read("/etc/machine-id"),
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def pids_available_percent() -> float:
    """Of the processes that the kernel allows; every process is a folder of /proc."""
    pid_max = int(_read("/proc/sys/kernel/pid_max") or 32768)
    running = sum(1 for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 (names alone, and many)
    return 100.0 * (pid_max - running) / pid_max


def disk_available_percent(root: Path) -> float:
    usage = shutil.disk_usage(root)
    return 100.0 * usage.free / max(1, usage.total)


def memory_available_kib() -> int:
    return capacity.meminfo_kib().get("MemAvailable", 0)


def new_node(config: Config) -> Object:
    """The Node as it is registered: names, labels and taints."""
    architecture = machine()["architecture"]
    labels = {
        "kubernetes.io/hostname": config.node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": architecture,
        **config.node_labels,
    }
    spec: dict[str, Any] = {}
    taints = [
        {"key": taint.key, "effect": taint.effect} | ({"value": taint.value} if taint.value else {})
        for taint in config.node_taints
    ]
    if config.cloud_provider:
        taints.append({"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"})
    if taints:
        spec["taints"] = taints
    if config.provider_id:
        spec["providerID"] = config.provider_id
    annotations = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
    if config.cloud_provider:
        annotations[PROVIDED_NODE_IP] = ",".join(config.node_ips)
    metadata = {"name": config.node_name, "labels": labels, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}
