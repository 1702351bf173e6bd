"""From our records to libpod's: the pod and container specifications that Podman's API takes. Pure.

What is decided here: a pod shares network, UTS and IPC namespaces (and processes, if asked), starts without a network
(the porter attaches it), and leaves /etc/hosts and resolv.conf alone (they are bind mounts of ours). hostIPC and
hostPID are options of each container, because Podman's pods have none for them.
Source: Podman's pkg/specgen (SpecGenerator, PodSpecGenerator), JSON names.
"""

from __future__ import annotations

import signal
from typing import Any

from orchestrator.kubelet.runtime import names
from orchestrator.kubelet.runtime.interface import ContainerSpec, Limits, Mount, SandboxSpec
from orchestrator.kubelet.runtime.names import Name

Json = dict[str, Any]
NO_HEALTHCHECK = {"Test": ["NONE"]}  # an image's own health check is not Kubernetes'
PRIVATE, HOST = {"nsmode": "private"}, {"nsmode": "host"}


def pod_labels(spec: SandboxSpec) -> dict[str, str]:
    return {
        names.OURS: "true",
        names.POD_UID: spec.uid,
        names.POD_NAME: spec.name,
        names.POD_NAMESPACE: spec.namespace,
    }


def container_labels(spec: ContainerSpec) -> dict[str, str]:
    return {
        **pod_labels(spec.sandbox),
        names.CONTAINER_NAME: spec.name,
        names.CONTAINER_KIND: spec.kind,
        names.CONTAINER_ATTEMPT: str(spec.attempt),
        names.CONTAINER_HASH: spec.spec_hash,
    }


def sandbox_name(spec: SandboxSpec) -> Name:
    return Name(names.SANDBOX, spec.name, spec.namespace, spec.uid, spec.attempt)


def infra_name(spec: SandboxSpec) -> str:
    """Of the container that holds the namespaces; its pod's name is taken by the pod."""
    return f"{sandbox_name(spec)}_infra"


def pod(spec: SandboxSpec) -> Json:
    """A PodSpecGenerator."""
    shared = ["ipc"] if not spec.host_ipc else []
    if not spec.host_network:
        shared += ["net", "uts"]
    if spec.share_pid and not spec.host_pid:
        shared.append("pid")
    made: Json = {
        "name": str(sandbox_name(spec)),
        "labels": pod_labels(spec),
        "infra_name": infra_name(spec),
        "infra_image": spec.image,
        "shared_namespaces": shared,
        "netns": HOST if spec.host_network else {"nsmode": "none"},
        "no_manage_hosts": True,
        "no_manage_resolv_conf": True,
        "exit_policy": "continue",
    }
    if spec.host_network:
        made["utsns"] = HOST  # else Podman makes one and names it after the sandbox, which may be too long a name
    else:
        made["hostname"] = spec.hostname
    if spec.sysctls:
        made["sysctl"] = dict(spec.sysctls)
    if spec.cgroup_parent:
        made["cgroup_parent"] = spec.cgroup_parent
    return made


def container(spec: ContainerSpec, *, limits_here: bool) -> Json:
    """A SpecGenerator. `limits_here`: whether Podman is to set the limits (cgroup v2), or someone else does."""
    sandbox = spec.sandbox
    made: Json = {
        "name": str(Name(spec.name, sandbox.name, sandbox.namespace, sandbox.uid, spec.attempt)),
        "pod": spec.sandbox_id,
        "labels": container_labels(spec),
        "image": spec.image,
        "env": dict(spec.env),
        "unsetenv": ["container"],  # Podman's own mark; programs take other ways when they see it
        "terminal": spec.tty,
        "stdin": spec.stdin,
        "create_working_dir": True,
        "log_configuration": {"driver": "k8s-file", "path": spec.log_path},
        "restart_policy": "no",
        "systemd": "false",
        "httpproxy": False,
        "use_image_hosts": True,
        "use_image_resolve_conf": True,
        "healthconfig": NO_HEALTHCHECK,
        "mounts": [_mount(mount) for mount in spec.mounts if not mount.is_image],
        "image_volumes": [_image_volume(mount) for mount in spec.mounts if mount.is_image],
    }
    if spec.entrypoint is not None:
        made["entrypoint"] = list(spec.entrypoint)
    if spec.command is not None:
        made["command"] = list(spec.command)
    if spec.working_dir:
        made["work_dir"] = spec.working_dir
    if spec.stop_signal:
        made["stop_signal"] = int(signal.Signals[spec.stop_signal])
    if spec.oom_score_adj is not None:
        made["oom_score_adj"] = spec.oom_score_adj
    if sandbox.cgroup_parent:
        made["cgroup_parent"] = sandbox.cgroup_parent
    if limits_here and (limits := resource_limits(spec.limits)):
        made["resource_limits"] = limits
    return made | _namespaces(spec) | _security(spec)


def _namespaces(spec: ContainerSpec) -> Json:
    made: Json = {}
    if spec.sandbox.host_pid:
        made["pidns"] = HOST
    elif spec.pid_container:
        made["pidns"] = {"nsmode": "container", "value": spec.pid_container}
    if spec.sandbox.host_ipc:
        made["ipcns"] = HOST
    if spec.sandbox.host_network:
        made["netns"] = HOST
        made["utsns"] = HOST
    return made


def _security(spec: ContainerSpec) -> Json:
    security = spec.security
    made: Json = {
        "no_new_privileges": security.no_new_privileges,
        "read_only_filesystem": security.read_only_root,
    }
    if security.read_only_root:
        made["read_write_tmpfs"] = False
    if security.user:
        made["user"] = security.user
    if security.groups:
        made["groups"] = list(security.groups)
    if security.is_privileged:
        made["privileged"] = True
        return made
    if security.capabilities_add:
        made["cap_add"] = list(security.capabilities_add)
    if security.capabilities_drop:
        made["cap_drop"] = list(security.capabilities_drop)
    if security.seccomp_profile:
        made["seccomp_profile_path"] = security.seccomp_profile
    if security.unmasked_proc:
        made["unmask"] = ["ALL"]
    return made


def _mount(mount: Mount) -> Json:
    mode = "ro" if mount.read_only else "rw"
    if mount.is_tmpfs:
        return {"type": "tmpfs", "destination": mount.destination, "source": "tmpfs", "options": [mode, "mode=1777"]}
    propagation = "rprivate" if mount.propagation == "private" else mount.propagation
    return {
        "type": "bind",
        "source": mount.source,
        "destination": mount.destination,
        # Podman adds nodev to binds, with which a device could not be opened.
        "options": ["rbind", mode, propagation, *(["dev"] if mount.is_device else [])],
    }


def _image_volume(mount: Mount) -> Json:
    made: Json = {"Source": mount.source, "Destination": mount.destination, "ReadWrite": not mount.read_only}
    return made | ({"subPath": mount.sub_path} if mount.sub_path else {})


def resource_limits(limits: Limits) -> Json:
    """OCI LinuxResources. The total with swap is that of the memory, so that there is no swap (Kubernetes' NoSwap), and
    raising the memory of a running container never meets a total below it, which crun refuses."""
    made: Json = {"cpu": {"shares": limits.cpu_shares}}
    if limits.cpu_quota_us:
        made["cpu"] |= {"quota": limits.cpu_quota_us, "period": limits.cpu_period_us}
    if limits.memory_bytes:
        made["memory"] = {"limit": limits.memory_bytes, "swap": limits.memory_bytes}
    if limits.pids:
        made["pids"] = {"limit": limits.pids}
    return made
