"""The Runtime on rootless Podman: our records to libpod calls, and its lists to our records.

A sandbox is a Podman pod with an infra container and no network. Nothing is touched that does not carry our label (a
container) or our kind of name (an infra container, whose labels are its pod's).
Limits: with cgroup v2 Podman sets them below `cgroup_parent`; with v1 it cannot, so a container is brought up to the
moment before its first instruction (`init`), the porter moves that process into a control group, and then it starts.
States: `stopped` comes before `exited` and means the same. After the node was killed Podman says "exited 0" with no
time of ending: how those ended is unknown, and unknown is not success.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from orchestrator.kubelet.porter import PodKey, Porter, PorterFailure
from orchestrator.kubelet.runtime import names, specgen
from orchestrator.kubelet.runtime.interface import (
    ContainerSpec,
    ContainerState,
    ExecResult,
    Image,
    NoSuchContainer,
    NoSuchImage,
    PodState,
    RuntimeEvent,
    RuntimeFailure,
    RuntimeUnavailable,
    Sandbox,
    SandboxSpec,
    State,
)
from orchestrator.kubelet.runtime.libpod import Json, Libpod
from orchestrator.kubelet.runtime.slots import Slots

log = logging.getLogger(__name__)

MINE = {"label": [f"{names.OURS}=true"]}
STATES = {
    "created": State.CREATED,
    "configured": State.CREATED,
    "initialized": State.CREATED,
    "running": State.RUNNING,
    "paused": State.RUNNING,
    "stopping": State.RUNNING,
    "stopped": State.EXITED,
    "exited": State.EXITED,
    "removing": State.EXITED,
}
# Podman forks several processes for each of these; more at once only make each of them slower.
CHANGES_MAX = 4
STARTING, CREATING, SANDBOX = range(3)  # ranks
CONMON_REOPEN_LOG = b"2 0 0\n"
# What tells of a change of state; the many others (exec, mount, …) would wake a worker for nothing.
EVENTS = ["start", "died", "remove", "cleanup"]


class Podman:
    """The pods and containers of one user."""

    def __init__(self, libpod: Libpod, porter: Porter, *, limits_by_porter: bool) -> None:
        self.libpod = libpod
        self._porter = porter
        self._limits_by_porter = limits_by_porter
        self._slots = Slots(CHANGES_MAX)
        self._start_errors: dict[str, str] = {}  # of containers that never ran, by id
        self._oom_killed: dict[str, bool] = {}  # of ended containers, by id

    async def close(self) -> None:
        await self.libpod.close()

    async def version(self) -> str:
        return await self.libpod.version()

    async def pods(self) -> list[PodState]:
        rows = await self.libpod.list_containers({"name": [f"^{names.PREFIX}"]})
        by_uid: dict[str, list[tuple[names.Name, Json]]] = {}
        for row in rows:
            if (name := _name(row)) is not None:
                by_uid.setdefault(name.uid, []).append((name, row))
        self._forget({row["Id"] for row in rows})
        return [await self._state(uid, found) for uid, found in sorted(by_uid.items())]

    async def pod(self, uid: str) -> PodState:
        rows = await self.libpod.list_containers({"name": [f"^{names.PREFIX}.*_{uid}_"]})
        return await self._state(uid, [(name, row) for row in rows if (name := _name(row)) and name.uid == uid])

    async def _state(self, uid: str, found: list[tuple[names.Name, Json]]) -> PodState:
        if not found:
            return PodState(uid=uid)
        sandboxes = [_sandbox(name, row) for name, row in found if name.container == names.SANDBOX]
        containers = [
            await self._container(name, row)
            for name, row in found
            if name.container != names.SANDBOX and (row.get("Labels") or {}).get(names.OURS)
        ]
        name = found[0][0]
        return PodState(
            uid=uid,
            name=name.pod,
            namespace=name.namespace,
            sandboxes=tuple(sorted(sandboxes, key=lambda sandbox: -sandbox.attempt)),
            containers=tuple(sorted(containers, key=lambda container: (-container.created_at, -container.attempt))),
        )

    async def _container(self, name: names.Name, row: Json) -> ContainerState:
        labels: dict[str, str] = row["Labels"]
        state = STATES.get(row["State"], State.UNKNOWN)
        started, finished = _seconds(row.get("StartedAt")), _seconds(row.get("ExitedAt"))
        start_error = self._start_errors.get(row["Id"], "")
        exit_code = int(row.get("ExitCode") or 0)
        if start_error:
            state, exit_code = State.EXITED, 128
            finished = finished or _seconds(row.get("Created"))
        elif state is State.EXITED and (finished <= 0 or finished < started):
            state = State.UNKNOWN
        elif state is State.CREATED and started > 0:
            # Seen for a moment after a start, when the OCI runtime is asked before it has noticed; without a process
            # it is what a restart of the node has left.
            state = State.RUNNING if row.get("Pid") else State.UNKNOWN
        return ContainerState(
            id=row["Id"],
            name=labels.get(names.CONTAINER_NAME, name.container),
            kind=_kind(labels.get(names.CONTAINER_KIND)),
            state=state,
            attempt=name.attempt,
            spec_hash=labels.get(names.CONTAINER_HASH, ""),
            sandbox_id=row.get("Pod", ""),
            image=row.get("Image", ""),
            image_id=row.get("ImageID", ""),
            pid=int(row.get("Pid") or 0),
            created_at=_seconds(row.get("Created")),
            started_at=started,
            finished_at=finished,
            exit_code=exit_code,
            is_oom_killed=state is State.EXITED and exit_code != 0 and await self._is_oom_killed(name, row["Id"]),
            start_error=start_error,
        )

    async def _is_oom_killed(self, name: names.Name, container_id: str) -> bool:
        """Asked once for each ended container; on v1 hosts only the porter's control group knows."""
        if container_id in self._start_errors:
            return False
        known = self._oom_killed.get(container_id)
        if known is None:
            try:
                if self._limits_by_porter:
                    pod = PodKey(name.uid, name.namespace, name.pod)
                    known = (await self._porter.cgroup_stat(pod, name.container)).oom_kills > 0
                else:
                    known = bool((await self.libpod.inspect_container(container_id))["State"].get("OOMKilled"))
            except (PorterFailure, NoSuchContainer):
                known = False
            self._oom_killed[container_id] = known
        return known

    def _forget(self, present: set[str]) -> None:
        for memory in (self._start_errors, self._oom_killed):
            for gone in memory.keys() - present:
                del memory[gone]

    async def run_sandbox(self, spec: SandboxSpec) -> Sandbox:
        async with self._slots.slot(SANDBOX):
            return await self._run_sandbox(spec)

    async def _run_sandbox(self, spec: SandboxSpec) -> Sandbox:
        pod_id = await self.libpod.create_pod(specgen.pod(spec))
        try:
            await self.libpod.start_pod(pod_id)
            infra = await self.libpod.inspect_container(specgen.infra_name(spec))
            if (pid := int(infra["State"].get("Pid") or 0)) <= 0:
                raise RuntimeFailure(f"sandbox image {spec.image} ended at once")
        except RuntimeFailure:
            await self.libpod.remove_pod(pod_id)
            raise
        return Sandbox(id=pod_id, is_ready=True, attempt=spec.attempt, pid=pid)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        try:
            found = await self.libpod.inspect_pod(sandbox_id)
            if infra := found.get("InfraContainerID"):
                await self.libpod.stop_container(infra, 0)
        except NoSuchContainer:
            return

    async def remove_sandbox(self, sandbox_id: str) -> None:
        try:
            async with self._slots.slot(SANDBOX):
                await self._remove_pod(sandbox_id)
        except NoSuchContainer:
            return

    async def _remove_pod(self, pod_id: str) -> None:
        """A container whose mounts failed spoils Podman's first removal of its pod, not the second."""
        try:
            await self.libpod.remove_pod(pod_id)
        except (NoSuchContainer, RuntimeUnavailable):
            raise
        except RuntimeFailure as error:
            log.info("pod is removed again", extra={"pod": pod_id, "error": str(error)})
            await self.libpod.remove_pod(pod_id)

    async def create_container(self, spec: ContainerSpec) -> str:
        await self._check_image_volumes(spec)
        wanted = specgen.container(spec, limits_here=not self._limits_by_porter)
        async with self._slots.slot(CREATING):
            return await self.libpod.create_container(wanted)

    async def _check_image_volumes(self, spec: ContainerSpec) -> None:
        """Podman cannot mount an image of a read-only (shared) store, and fails late: refuse it early."""
        for mount in spec.mounts:
            if mount.is_image:
                image = await self.libpod.inspect_image(mount.source)
                rows = await self.libpod.list_images()
                if any(row.get("Id") == image.get("Id") and row.get("ReadOnly") for row in rows):
                    raise RuntimeFailure(
                        f"image volume {mount.source}: images of the node's shared store have no mounts"
                    )

    async def start_container(self, container_id: str, spec: ContainerSpec) -> None:
        try:
            async with self._slots.slot(STARTING):
                if self._limits_by_porter:
                    await self._enter_cgroup(container_id, spec)
                await self.libpod.start_container(container_id)
        except RuntimeUnavailable:
            raise
        except RuntimeFailure as error:
            self._start_errors[container_id] = str(error)
            raise

    async def _enter_cgroup(self, container_id: str, spec: ContainerSpec) -> None:
        await self.libpod.init_container(container_id)
        pid = int((await self.libpod.inspect_container(container_id))["State"]["Pid"])
        pod = PodKey(spec.sandbox.uid, spec.sandbox.namespace, spec.sandbox.name)
        try:
            if spec.attempt:  # the counters of its predecessor's group must not be taken for its own
                await self._porter.remove_cgroup(pod, spec.name)
            await self._porter.enter_cgroup(pod, spec.name, pid, spec.limits)
        except PorterFailure as error:
            raise RuntimeFailure(f"limits could not be set: {error}") from error

    async def stop_container(self, container_id: str, grace_s: int) -> None:
        try:
            await self.libpod.stop_container(container_id, grace_s)
        except NoSuchContainer:
            return

    async def kill_container(self, container_id: str) -> None:
        try:
            await self.libpod.kill_container(container_id, "KILL")
        except NoSuchContainer:
            return
        except RuntimeFailure as error:
            # It may have ended in the meantime, which is what was wanted.
            log.debug("kill refused", extra={"container": container_id, "error": str(error)})

    async def remove_container(self, container_id: str) -> None:
        try:
            await self.libpod.remove_container(container_id)
        except NoSuchContainer:
            return
        finally:
            self._start_errors.pop(container_id, None)
            self._oom_killed.pop(container_id, None)

    async def exec(self, container_id: str, command: list[str], timeout_s: float) -> ExecResult:
        async with asyncio.timeout(timeout_s):
            return await self.libpod.exec(container_id, command)

    async def reopen_log(self, container_id: str) -> None:
        """By the control pipe of conmon, which writes the log; Podman has no call for it."""
        found = await self.libpod.inspect_container(container_id)
        try:
            pipe = os.open(Path(found["StaticDir"], "ctl"), os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            raise RuntimeFailure(f"conmon of {container_id} cannot be told: {error}") from error
        try:
            os.write(pipe, CONMON_REOPEN_LOG)
        finally:
            os.close(pipe)

    async def image(self, name: str) -> Image | None:
        try:
            found = await self.libpod.inspect_image(name)
        except NoSuchImage:
            return None
        user = str((found.get("Config") or {}).get("User") or found.get("User") or "")
        return _image(found, user)

    async def images(self) -> list[Image]:
        return [_image(row) for row in await self.libpod.list_images()]

    async def pull_image(self, name: str, credentials: Mapping[str, str] | None) -> Image:
        await self.libpod.pull_image(name, _authorization(credentials))
        found = await self.image(name)
        if found is None:
            raise RuntimeFailure(f"image {name} is not there after its pull")
        return found

    async def remove_image(self, image_id: str) -> None:
        await self.libpod.remove_image(image_id)

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        async for event in self.libpod.events({"type": ["container"], "event": EVENTS}):
            attributes: dict[str, str] = (event.get("Actor") or {}).get("Attributes") or {}
            name = names.parse(attributes.get("name", "").removesuffix("_infra"))
            if name is not None:
                yield RuntimeEvent(name.uid, (event.get("Actor") or {}).get("ID", ""), event.get("Action", ""))


def _name(row: Json) -> names.Name | None:
    listed: Iterable[str] = row.get("Names") or ()
    return names.parse(next(iter(listed), "").removesuffix("_infra"))


def _sandbox(name: names.Name, row: Json) -> Sandbox:
    return Sandbox(
        id=row.get("Pod", ""),
        is_ready=STATES.get(row["State"]) is State.RUNNING,
        attempt=name.attempt,
        pid=int(row.get("Pid") or 0),
        created_at=_seconds(row.get("Created")),
    )


def _kind(text: str | None) -> Any:
    return text if text in ("app", "init", "ephemeral") else "app"


def _seconds(value: Any) -> float:
    """Seconds since the epoch of what libpod gives for a time: a number, RFC 3339, or its zero."""
    if isinstance(value, int | float):
        return max(0.0, float(value))
    if not value:
        return 0.0
    try:
        return max(0.0, datetime.fromisoformat(str(value)).timestamp())
    except ValueError:
        return 0.0


def _image(row: Json, user: str = "") -> Image:
    return Image(
        id="sha256:" + str(row["Id"]).removeprefix("sha256:"),
        names=tuple(row.get("RepoTags") or ()),
        digests=tuple(row.get("RepoDigests") or ()),
        size_bytes=int(row.get("Size") or 0),
        user=user,
    )


def _authorization(credentials: Mapping[str, str] | None) -> str:
    """The X-Registry-Auth header."""
    return base64.urlsafe_b64encode(orjson.dumps(dict(credentials))).decode() if credentials else ""
