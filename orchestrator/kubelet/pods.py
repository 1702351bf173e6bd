"""The kubelet's table of pods: a worker for each, fed from the API and from the manifests folder, woken by the runtime.

A pod is known by its uid. From the API come the pods bound to this node; mirror pods among them only show a static pod
and get no worker. A pod that the API no longer has is ended and removed here. What the runtime has and nobody wants
(the pod was deleted while this kubelet was away) is removed once the API's whole state is known.
The runtime's events wake the worker concerned; when the stream breaks, and now and then, everything is listed once.
Source: kubelet's pod workers and PLEG; KEP-3386 (evented PLEG).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODS
from orchestrator.api.status import ApiError, NotFound
from orchestrator.kubelet import manifests, podspec
from orchestrator.kubelet.manifests import Manifests
from orchestrator.kubelet.podstatus import Verdict
from orchestrator.kubelet.podworker import PodWorker
from orchestrator.kubelet.porter import PodKey, PorterFailure
from orchestrator.kubelet.runtime.interface import PodState, RuntimeFailure
from orchestrator.kubelet.surroundings import Surroundings

log = logging.getLogger(__name__)

RELIST_DELAY_S = 1.0
RELIST_S = 120.0  # events do not get lost, as far as we know; this bounds how long we could be wrong
RELIST_FIRST_S = 5.0  # what a kubelet had begun to make when it died may come to be after the next one has looked


class Pods:
    """All pods of this node. `begin` gives it what every worker shares, once that is put together."""

    def __init__(self) -> None:
        self._around: Surroundings | None = None
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._adopted: dict[str, PodState] = {}
        self._is_api_known = False
        self._manifests: Manifests | None = None
        self._mirrors: dict[str, Object] = {}  # by key
        self._mirrors_due = asyncio.Event()

    @property
    def around(self) -> Surroundings:
        assert self._around is not None, "begin() comes first"
        return self._around

    # What the server and the node's status ask.

    def all(self) -> list[Object]:
        return [worker.overlay for worker in self._workers.values()]

    def get(self, namespace: str, name: str) -> Object | None:
        key = (namespace, name)
        of_name = [worker for worker in self._workers.values() if (worker.key.namespace, worker.key.name) == key]
        return of_name[-1].overlay if of_name else None

    async def state(self, uid: str) -> PodState:
        return await self.around.runtime.pod(uid)

    def admitted(self, but: str) -> list[Object]:
        """Pods that take resources of the node, without the one that asks."""
        return [
            worker.pod
            for uid, worker in self._workers.items()
            if uid != but and not podspec.is_terminal(worker.overlay)
        ]

    def room_made(self) -> None:
        """Resizes that did not fit are looked at again."""
        for worker in self._workers.values():
            if worker.is_resize_pending:
                worker.wake()

    def mirror(self, pod: Object) -> Object | None:
        """What the API has of a pod of ours: itself, or its mirror, once that is there."""
        return self._mirrors.get(meta.key(pod)) if manifests.is_static(pod) else pod

    def evict(self, uid: str, message: str) -> None:
        """Ends a pod that takes more of the node than it may."""
        if (worker := self._workers.get(uid)) is not None and not worker.is_ending:
            self.around.recorder.event(worker.pod, "Warning", "Evicted", message)
            worker.evict(Verdict("Failed", "Evicted", message))

    def object_changed(self, uid: str) -> None:
        if (worker := self._workers.get(uid)) is not None:
            worker.object_changed()

    # Sources.

    async def begin(self, around: Surroundings) -> None:
        """Learns what the runtime has, so that workers take it over."""
        self._around = around
        self._adopted = {state.uid: state for state in await around.runtime.pods()}
        if around.config.static_pod_path:
            self._manifests = Manifests(Path(around.config.static_pod_path), around.config.node_name, around.clock.now)
            self._scan()

    def on_pod(self, old: Object | None, new: Object | None) -> None:
        """The informer's handler: a pod bound to this node came, changed or went."""
        pod = new if new is not None else old
        assert pod is not None
        if manifests.is_mirror(pod):
            self._on_mirror(pod, gone=new is None)
            return
        if old is not None and new is not None and meta.uid(old) != meta.uid(new):
            self._feed(meta.uid(old), None)  # deleted and created anew, seen as one change
        self._feed(meta.uid(pod), new)

    def _feed(self, uid: str, pod: Object | None) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(pod)
        elif pod is not None:
            self._start(pod)

    def _start(self, pod: Object) -> None:
        uid = meta.uid(pod)
        worker = PodWorker(self.around, pod, self._adopted.pop(uid, None))
        self._workers[uid] = worker
        task = asyncio.create_task(worker.run(), name=f"pod {meta.key(pod)}")
        self._tasks[uid] = task
        task.add_done_callback(lambda done: self._ended(uid, done))

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        self._workers.pop(uid, None)
        self._tasks.pop(uid, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("pod worker failed", exc_info=error, extra={"uid": uid})

    async def stop(self) -> None:
        """Ends the workers; containers go on running."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # The runtime's side.

    async def follow_runtime(self) -> None:
        """Wakes the workers whose containers change."""
        patience_s = RELIST_FIRST_S
        while True:
            try:
                async with asyncio.timeout(patience_s):
                    async for event in self.around.runtime.events():
                        if (worker := self._workers.get(event.pod_uid)) is not None:
                            worker.runtime_changed()
            except TimeoutError:
                patience_s = RELIST_S
            except RuntimeFailure as error:
                log.warning("runtime events broke off", extra={"error": str(error)})
                await asyncio.sleep(RELIST_DELAY_S)
            await self._relist()

    async def _relist(self) -> None:
        """One look at everything: workers that have missed something look again, and what nobody wants goes."""
        try:
            found = {state.uid: state for state in await self.around.runtime.pods()}
        except RuntimeFailure as error:
            log.warning("runtime not listed", extra={"error": str(error)})
            return
        for uid, worker in self._workers.items():
            if found.get(uid, PodState(uid=uid)).outline != worker.state.outline:
                worker.runtime_changed()
        if self._is_api_known:
            self._adopted = {uid: state for uid, state in found.items() if uid not in self._workers}
            await self._remove_orphaned_pods()

    async def remove_orphans(self) -> None:
        """What the node has of pods that are not of this node any more. Call once the API's state is known."""
        self._is_api_known = True
        await self._remove_orphaned_pods()
        await self._remove_orphaned_folders()

    async def _remove_orphaned_pods(self) -> None:
        for uid, state in list(self._adopted.items()):
            if uid in self._workers:
                continue
            try:
                for sandbox in state.sandboxes:
                    await self.around.runtime.remove_sandbox(sandbox.id)
                await self.around.porter.purge(PodKey(uid, state.namespace, state.name))
                log.info("orphaned pod removed", extra={"uid": uid, "pod": f"{state.namespace}/{state.name}"})
                del self._adopted[uid]
            except (RuntimeFailure, PorterFailure) as error:
                log.warning("orphaned pod not removed", extra={"uid": uid, "error": str(error)})
        await self.around.disks.release_unknown(self._workers.keys() | self._adopted.keys())

    async def _remove_orphaned_folders(self) -> None:
        """Volumes and logs of pods that neither the API nor the runtime knows."""
        dirs = self.around.dirs
        known = self._workers.keys() | self._adopted.keys()
        for folder in dirs.pods.iterdir() if dirs.pods.is_dir() else ():
            if folder.name not in known:
                try:
                    await self.around.porter.purge(PodKey(folder.name, "", ""))
                except PorterFailure as error:
                    log.warning("orphaned volumes not removed", extra={"uid": folder.name, "error": str(error)})
        for folder in dirs.logs.iterdir() if dirs.logs.is_dir() else ():
            if folder.name.rpartition("_")[2] not in known:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    # Static pods.

    async def follow_manifests(self) -> None:
        if self._manifests is None:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_mirrors())
            while True:
                await asyncio.sleep(manifests.SCAN_S)
                self._scan()

    def _scan(self) -> None:
        assert self._manifests is not None
        before = dict(self._manifests.pods)
        if not self._manifests.scan():
            return
        for uid in before.keys() - self._manifests.pods.keys():
            self._feed(uid, None)
        for uid in self._manifests.pods.keys() - before.keys():
            self._feed(uid, self._manifests.pods[uid])
        self._mirrors_due.set()

    def _on_mirror(self, pod: Object, *, gone: bool) -> None:
        if gone:
            self._mirrors.pop(meta.key(pod), None)
        else:
            self._mirrors[meta.key(pod)] = pod
            if (worker := self._workers.get(meta.annotations(pod)[manifests.MIRROR])) is not None:
                worker.wake()
        self._mirrors_due.set()

    async def _keep_mirrors(self) -> None:
        """Makes the API's mirror pods what the manifests say."""
        while True:
            await self._mirrors_due.wait()
            self._mirrors_due.clear()
            try:
                await self._sync_mirrors()
            except (ApiError, ConnectionError) as error:
                log.warning("mirror pods not kept", extra={"error": str(error)})
                await asyncio.sleep(RELIST_DELAY_S)
                self._mirrors_due.set()

    async def _sync_mirrors(self) -> None:
        assert self._manifests is not None
        node = self.around.node()
        if node is None:
            raise ConnectionError("the node is not registered yet")
        wanted = {meta.key(pod): pod for pod in self._manifests.pods.values()}
        for key, mirror in list(self._mirrors.items()):
            static = wanted.get(key)
            is_right = static is not None and meta.annotations(mirror)[manifests.MIRROR] == meta.uid(static)
            if is_right and not meta.is_deleting(mirror):
                continue
            try:
                await self.around.client.delete(
                    PODS, meta.name(mirror), meta.namespace(mirror), grace_period_s=0, uid=meta.uid(mirror)
                )
            except NotFound:
                self._mirrors.pop(key, None)
        for key, static in wanted.items():
            if key not in self._mirrors:
                made = await self.around.client.create(PODS, manifests.mirror_of(static, node))
                self._mirrors[key] = made
