"""Making one container of a pod: everything that its specification for the runtime is put together from.

Errors: ConfigFailure in the kubelet's words (CreateContainerConfigError) for what the pod's author can mend.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import CONFIGMAPS, SECRETS
from orchestrator.api.status import ApiError, NotFound
from orchestrator.kubelet import env, expansion, limits, podspec, securitycontext, serviceenv
from orchestrator.kubelet.config import Config
from orchestrator.kubelet.env import EnvError, Reference
from orchestrator.kubelet.podspec import Container
from orchestrator.kubelet.runtime.interface import (
    ContainerKind,
    ContainerSpec,
    Image,
    Mount,
    PodState,
    SandboxSpec,
)
from orchestrator.kubelet.securitycontext import SecurityError
from orchestrator.kubelet.volumes import mounter
from orchestrator.kubelet.volumes.mounter import Mounts
from orchestrator.kubelet.volumes.volume import Place, VolumeFailure

TERMINATION_PATH = "/dev/termination-log"
TERMINATION_MODE = 0o666
HOST_FILES_MODE = 0o644


class ConfigFailure(Exception):
    """The container's configuration cannot be made."""


class Making(Struct, frozen=True, kw_only=True):
    """One container about to be made."""

    container: Container
    kind: ContainerKind
    attempt: int
    image: Image
    sandbox: SandboxSpec
    sandbox_id: str
    mounted: Mounts
    services: Iterable[Object]
    memory_capacity_bytes: int


def sandbox_spec(pod: Object, attempt: int, config: Config) -> SandboxSpec:
    described = podspec.spec(pod)
    short, domain = podspec.hostname(pod, config.cluster_domain)
    full = f"{short}.{domain}" if described.get("setHostnameAsFQDN") and domain else short
    return SandboxSpec(
        uid=meta.uid(pod),
        name=meta.name(pod),
        namespace=meta.namespace(pod),
        attempt=attempt,
        image=config.sandbox_image,
        hostname=full,
        host_network=podspec.is_host_network(pod),
        host_pid=bool(described.get("hostPID")),
        host_ipc=bool(described.get("hostIPC")),
        share_pid=bool(described.get("shareProcessNamespace")),
        sysctls=securitycontext.sysctls(pod),
        cgroup_parent=config.cgroup_parent,
    )


async def container_spec(making: Making, place: Place, state: PodState, config: Config) -> ContainerSpec:
    container, pod = making.container, place.pod
    try:
        variables = env.build(container, await _env_inputs(making, place))
        seccomp = Path(config.seccomp_dir)
        security = securitycontext.of_container(pod, container, making.image.user, seccomp)
        mounts = mounter.container_mounts(container, making.mounted, variables)
    except (EnvError, SecurityError, VolumeFailure) as error:
        raise ConfigFailure(str(error)) from error
    command, args = container.get("command"), container.get("args")
    mounts += _own_mounts(making, place, mounts)
    if security.read_only_root and not any(mount.destination == "/dev/shm" for mount in mounts):
        mounts.append(Mount(source="tmpfs", destination="/dev/shm", is_tmpfs=True))
    target = container.get("targetContainerName")
    target_state = state.latest(target) if target else None
    return ContainerSpec(
        sandbox=making.sandbox,
        sandbox_id=making.sandbox_id,
        name=container["name"],
        kind=making.kind,
        attempt=making.attempt,
        spec_hash=podspec.spec_hash(container),
        image=making.image.id.removeprefix("sha256:") or container["image"],
        entrypoint=_expanded(command, variables),
        command=_expanded(args, variables) if args or not command else (),
        env=variables,
        working_dir=container.get("workingDir") or "",
        mounts=tuple(mounts),
        log_path=str(place.dirs.log(container["name"], making.attempt)),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        security=security,
        limits=limits.container_limits(pod, container, config.pod_pids_max),
        oom_score_adj=limits.oom_score_adj(pod, container, making.memory_capacity_bytes),
        stop_signal=(container.get("lifecycle") or {}).get("stopSignal") or "",
        pid_container=target_state.id if target_state else "",
    )


def _expanded(words: list[str] | None, variables: Mapping[str, str]) -> tuple[str, ...] | None:
    """None and an empty list both mean the image's own."""
    return tuple(expansion.expand(word, variables) for word in words) if words else None


async def _env_inputs(making: Making, place: Place) -> env.Inputs:
    links = podspec.spec(place.pod).get("enableServiceLinks")
    services = serviceenv.variables(making.services, meta.namespace(place.pod), links=links is not False)
    objects: dict[Reference, Object] = {}
    for reference in env.references(making.container):
        resource = CONFIGMAPS if reference.kind == "configmap" else SECRETS
        try:
            objects[reference] = await place.get(resource, reference.name)
        except NotFound:
            continue
        except (ApiError, ConnectionError) as error:
            raise ConfigFailure(f"failed to sync {reference.kind} cache: {error}") from error
    return env.Inputs(place.pod, place.facts, place.pod_ips, services, objects)


def _own_mounts(making: Making, place: Place, given: list[Mount]) -> list[Mount]:
    """Files of ours in every container, but where the pod mounts something of its own."""
    name = making.container["name"]
    log_file = place.dirs.log(name, making.attempt)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    message = place.dirs.termination_log(name, making.attempt)
    message.parent.mkdir(parents=True, exist_ok=True)
    message.touch()
    message.chmod(TERMINATION_MODE)
    wanted = {
        making.container.get("terminationMessagePath") or TERMINATION_PATH: message,
        "/etc/hosts": place.dirs.hosts,
        "/etc/resolv.conf": place.dirs.resolv_conf,
    }
    taken = {mount.destination for mount in given}
    return [
        Mount(source=str(file), destination=destination)
        for destination, file in wanted.items()
        if destination not in taken
    ]
