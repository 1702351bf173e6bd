"""Bringing a pod up: its sandbox and addresses, its volumes, the files in its /etc, and its containers one at a time.

Whatever is begun here may be cut short or fail at any point; the next look at the runtime says what came of it, and
every step may be done again. Errors: RuntimeFailure, PorterFailure and VolumeFailure, told to users where they happen.
What a container waits for by its own fault is no error but a `Delay`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.status import ApiError
from orchestrator.kubelet import etcfiles, network, podspec
from orchestrator.kubelet.containers import ConfigFailure, Making, container_spec, sandbox_spec
from orchestrator.kubelet.dirs import PodDirs
from orchestrator.kubelet.handlers import Target
from orchestrator.kubelet.images import ImageFailure
from orchestrator.kubelet.podspec import Container
from orchestrator.kubelet.podstatus import Waiting
from orchestrator.kubelet.porter import PodKey, PorterFailure
from orchestrator.kubelet.runtime.interface import PodState, RuntimeFailure, RuntimeUnavailable, Sandbox, State
from orchestrator.kubelet.surroundings import Surroundings
from orchestrator.kubelet.sync import StartContainer
from orchestrator.kubelet.volumes import mounter
from orchestrator.kubelet.volumes.mounter import Mounts
from orchestrator.kubelet.volumes.volume import Place, VolumeFailure

CONFIG_RETRY_S = 10.0
DEAD_KEPT = 1  # ended containers of one name, beside the newest: `kubectl logs --previous`
NODE_HOSTS = Path("/etc/hosts")
HOOK_TIMEOUT_S = 24 * 3600.0  # a postStart hook has no limit of its own; the container waits for it

TellContainer = Callable[[str, str, str, str], None]  # container, type, reason, message
TellPod = Callable[[str, str, str], None]


class Delay(NamedTuple):
    """Why a container was not started; `retry_at` None leaves it to the restart policy."""

    waiting: Waiting
    retry_at: float | None = None


class HookFailed(NamedTuple):
    """The container runs, but its postStart hook failed: it must be killed."""

    container_id: str
    message: str


class PodStart:
    """Of one pod. `addresses` are the sandbox's."""

    def __init__(
        self, around: Surroundings, key: PodKey, dirs: PodDirs, tell: TellContainer, tell_pod: TellPod
    ) -> None:
        self._around, self._key, self._dirs = around, key, dirs
        self._tell, self._tell_pod = tell, tell_pod
        self._mounted: Mounts | None = None
        self.addresses: tuple[str, ...] = ()

    def adopt(self, pod: Object, sandbox: Sandbox) -> None:
        """The sandbox runs already, from an earlier kubelet."""
        if podspec.is_host_network(pod):
            self.addresses = tuple(self._around.config.node_ips)
        else:
            self.addresses = network.remembered(sandbox, self._dirs)

    async def replace_sandbox(self, pod: Object, state: PodState, attempt: int) -> None:
        """Removes what there is of sandboxes, then makes a new one; volumes are mounted meanwhile, for neither needs
        the other."""
        for old in state.sandboxes:
            await self._around.runtime.remove_sandbox(old.id)
        self.addresses, self._mounted = (), None
        self._dirs.root.mkdir(parents=True, exist_ok=True)
        mounting = asyncio.create_task(self._mount(pod))
        try:
            await self._run_sandbox(pod, attempt)
            self._write_files(pod)
            await mounting
        finally:
            mounting.cancel()

    async def _run_sandbox(self, pod: Object, attempt: int) -> None:
        around = self._around
        try:
            sandbox = await around.runtime.run_sandbox(sandbox_spec(pod, attempt, around.config))
            if podspec.is_host_network(pod):
                self.addresses = tuple(around.config.node_ips)
            else:
                self.addresses = await network.attach(around.porter, self._key, pod, sandbox, self._dirs)
        except (RuntimeFailure, PorterFailure) as error:
            self._tell_pod("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            raise

    def _write_files(self, pod: Object) -> None:
        config = self._around.config
        resolver = etcfiles.resolver(pod, self._around.resolver(), config.cluster_dns, config.cluster_domain)
        node_hosts = NODE_HOSTS.read_text() if NODE_HOSTS.exists() else ""
        network.write_files(pod, self.addresses, self._dirs, resolver, node_hosts, config.cluster_domain)

    async def _mount(self, pod: Object) -> Mounts:
        if self._mounted is None:
            try:
                self._mounted = await mounter.mount_all(self._place(pod))
            except (VolumeFailure, PorterFailure, ApiError) as error:
                self._tell_pod("Warning", "FailedMount", str(error))
                raise VolumeFailure(str(error)) from error
        return self._mounted

    async def update_volumes(self, pod: Object) -> None:
        """Brings volumes made of files up to date."""
        await mounter.mount_all(self._place(pod), live_only=True)

    async def start(
        self, pod: Object, state: PodState, action: StartContainer, container: Container
    ) -> Delay | HookFailed | None:
        """Starts a container; says what kept it from running, if anything did."""
        now, name = self._around.clock.now(), action.name
        try:
            return await self._create_and_start(pod, state, action, container)
        except ImageFailure as error:
            if error.reason != "ImagePullBackOff":
                self._tell(name, "Warning", "Failed", f"Error: {error.reason}")
            return Delay(Waiting(error.reason, error.message), error.retry_at or now + CONFIG_RETRY_S)
        except ConfigFailure as error:
            self._tell(name, "Warning", "Failed", f"Error: {error}")
            return Delay(Waiting("CreateContainerConfigError", str(error)), now + CONFIG_RETRY_S)

    async def _create_and_start(
        self, pod: Object, state: PodState, action: StartContainer, container: Container
    ) -> Delay | HookFailed | None:
        around, name, sandbox = self._around, action.name, state.sandbox
        assert sandbox is not None, "containers are started in a sandbox"
        image = await around.images.ensure(pod, container, lambda *event: self._tell(name, *event))
        mounted = await self._mount(pod)
        if not self._dirs.hosts.exists():
            self._write_files(pod)
        making = Making(
            container=container,
            kind=action.kind,
            attempt=action.attempt,
            image=image,
            sandbox=sandbox_spec(pod, sandbox.attempt, around.config),
            sandbox_id=sandbox.id,
            mounted=mounted,
            services=around.services(),
            memory_capacity_bytes=around.memory_capacity_bytes,
        )
        spec = await container_spec(making, self._place(pod), state, around.config)
        await self._remove_dead(state, name)
        try:
            container_id = await around.runtime.create_container(spec)
        except RuntimeUnavailable:
            raise
        except RuntimeFailure as error:
            self._tell(name, "Warning", "Failed", f"Error: {error}")
            return Delay(Waiting("CreateContainerError", str(error)), around.clock.now() + CONFIG_RETRY_S)
        self._tell(name, "Normal", "Created", "Container created")
        try:
            await around.runtime.start_container(container_id, spec)
        except RuntimeUnavailable:
            raise
        except RuntimeFailure as error:
            self._tell(name, "Warning", "Failed", f"Error: {error}")
            return Delay(Waiting("RunContainerError", str(error)))
        self._tell(name, "Normal", "Started", "Container started")
        return await self._post_start(container_id, container)

    async def _post_start(self, container_id: str, container: Container) -> HookFailed | None:
        hook = (container.get("lifecycle") or {}).get("postStart")
        if not hook:
            return None
        target = Target(container_id, container, self.addresses[0] if self.addresses else "")
        outcome = await self._around.handlers.run(hook, target, HOOK_TIMEOUT_S)
        if outcome.passed:
            return None
        self._tell(container["name"], "Warning", "FailedPostStartHook", f"PostStartHook failed: {outcome.message}")
        return HookFailed(container_id, outcome.message)

    async def _remove_dead(self, state: PodState, name: str) -> None:
        """Predecessors that nobody will ask for, and what was made and never started."""
        of_name = [found for found in state.containers if found.name == name]
        dead = [found for found in of_name if found.state is not State.CREATED]
        for found in [found for found in of_name if found.state is State.CREATED] + dead[DEAD_KEPT:]:
            await self._around.runtime.remove_container(found.id)

    def _place(self, pod: Object) -> Place:
        around = self._around
        return Place(
            pod=pod,
            client=around.client,
            disks=around.disks,
            dirs=self._dirs,
            porter=around.porter,
            objects=around.objects,
            tokens=around.tokens,
            facts=around.facts(),
            clock=around.clock,
            pod_ips=self.addresses,
        )


def described(pod: Object) -> str:
    """`name_namespace(uid)`: how messages name a pod."""
    return f"{meta.name(pod)}_{meta.namespace(pod)}({meta.uid(pod)})"
