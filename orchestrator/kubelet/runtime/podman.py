"""The Runtime on rootless Podman: our records to libpod calls, and its lists to our records.

A sandbox is a Podman pod with an infra container and no network. Nothing is touched that does not carry our label (a
container) or our kind of name (an infra container, whose labels are its pod's).
Limits: with cgroup v2 Podman sets them below `cgroup_parent`; with v1 it cannot, so a container is brought up to the
moment before its first instruction (`init`), the porter moves that process into a control group, and then it starts.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import orjson

from orchestrator.kubelet.porter import PodKey, Porter, PorterFailure
from orchestrator.kubelet.runtime import names, specgen
from orchestrator.kubelet.runtime.interface import (
    ContainerSpec,
    ContainerState,
    ExecResult,
    Image,
    Limits,
    NoSuchContainer,
    NoSuchImage,
    PodState,
    RuntimeEvent,
    RuntimeFailure,
    RuntimeUnavailable,
    Sandbox,
    SandboxSpec,
)
from orchestrator.kubelet.runtime.libpod import Json, Libpod
from orchestrator.kubelet.runtime.slots import Slots
from orchestrator.kubelet.runtime.states import States

log = logging.getLogger(__name__)

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
        self._states = States(libpod, porter, limits_by_porter=limits_by_porter)

    async def close(self) -> None:
        await self.libpod.close()

    async def version(self) -> str:
        return await self.libpod.version()

    async def pods(self) -> list[PodState]:
        return await self._states.all()

    async def pod(self, uid: str) -> PodState:
        return await self._states.pod(uid)

    async def run_sandbox(self, spec: SandboxSpec) -> Sandbox:
        async with self._slots.slot(SANDBOX):
            return await self._run_sandbox(spec)

    async def _run_sandbox(self, spec: SandboxSpec) -> Sandbox:
        self._states.doubt(spec.uid)
        pod_id = await self.libpod.create_pod(specgen.pod(spec))
        try:
            await self.libpod.start_pod(pod_id)
            infra = await self.libpod.inspect_container(specgen.infra_name(spec))
            if (pid := int(infra["State"].get("Pid") or 0)) <= 0:
                raise RuntimeFailure(f"sandbox image {spec.image} ended at once")
        except RuntimeFailure:
            await self.libpod.remove_pod(pod_id)
            raise
        self._states.made(spec.uid, pod_id)
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
            pass
        self._states.removed(sandbox_id)

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
            self._states.start_errors[container_id] = str(error)
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

    async def limit_container(self, pod: PodState, container: ContainerState, limits: Limits) -> None:
        if not self._limits_by_porter:
            await self.libpod.update_container(container.id, specgen.resource_limits(limits))
            return
        try:
            await self._porter.limit_cgroup(PodKey(pod.uid, pod.namespace, pod.name), container.name, limits)
        except PorterFailure as error:
            raise RuntimeFailure(f"limits could not be set: {error}") from error

    async def stop_container(self, container_id: str, grace_s: int) -> None:
        """By a signal of our own: one that Podman is asked to stop counts as running no more while it still winds down,
        and nobody may exec in it then, neither a probe nor a person."""
        try:
            if grace_s > 0 and await self._signal_to_stop(container_id):
                try:
                    async with asyncio.timeout(grace_s):
                        await self.libpod.wait_container(container_id, "exited")
                        return
                except TimeoutError:
                    pass
            await self.libpod.stop_container(container_id, 0)
        except NoSuchContainer:
            return

    async def _signal_to_stop(self, container_id: str) -> bool:
        """Whether it was running."""
        found = await self.libpod.inspect_container(container_id)
        if found["State"]["Status"] != "running":
            return False
        try:
            await self.libpod.kill_container(container_id, str(found["Config"].get("StopSignal") or "TERM"))
        except NoSuchContainer:
            raise
        except RuntimeFailure as error:  # it has ended meanwhile
            log.debug("signal refused", extra={"container": container_id, "error": str(error)})
        return True

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
            self._states.container_removed(container_id)

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
