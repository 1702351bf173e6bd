"""A kubelet without containers: registers its node, renews its lease, and plays the life of the pods bound to it.

A pod starts within seconds, becomes ready, and ends when deleted, after a part of its grace; a pod whose image is
`broken` never becomes ready; one whose image is `once` ends well after a while, `fails` badly. A silent kubelet hears
and says nothing, as a node that lost its network: its pods stay as they are, as far as anyone else can tell.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from orchestrator.api import conditions, meta, status
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.resources import LEASES, NODES, PODS
from orchestrator.client.client import Client
from orchestrator.client.informer import Informers
from orchestrator.client.workqueue import WorkQueue

LEASE_PERIOD_S = 10.0
RUN_S = 30.0


class FakeKubelet:
    """One node."""

    def __init__(self, name: str, number: int, client: Client, clock: Clock, random: Random) -> None:
        self.name = name
        self.number = number
        self.is_silent = False
        self._client = client
        self._clock = clock
        self._random = random
        self._informers = Informers(client, random)
        self._pods = self._informers.informer(PODS, field_selector=f"spec.nodeName={name}")
        self._queue = WorkQueue()
        self.running: dict[str, str] = {}  # uid → name of the pods whose containers run here, heard or not
        self._began: dict[str, float] = {}
        self._addresses = 0
        self._pods.add_handler(lambda old, new: self._queue.add(meta.key(new or old or {})))

    async def run(self) -> None:
        await self._register()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informers.run())
            group.create_task(self._renew())
            group.create_task(self._work())

    async def _register(self) -> None:
        at = meta.format_time(self._clock.now())
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
        }
        node: Object = {
            "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}},
            "spec": {},
            "status": {
                "capacity": {"cpu": "8", "memory": "16Gi", "pods": "110"},
                "allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"},
                "conditions": [{**ready, "lastHeartbeatTime": at, "lastTransitionTime": at}],
                "addresses": [{"type": "InternalIP", "address": f"172.29.0.{self.number + 10}"}],
            },
        }
        while True:
            try:
                await self._register_once(node)
                return
            except (status.ApiError, ConnectionError):
                await asyncio.sleep(1)

    async def _register_once(self, node: Object) -> None:
        try:
            created = await self._client.create(NODES, node)
        except status.AlreadyExists:
            created = await self._client.get(NODES, self.name)
        await self._client.update(NODES, {**created, "status": node["status"]}, subresource="status")

    async def _renew(self) -> None:
        while True:
            if not self.is_silent:
                try:
                    await self._renew_once()
                except (status.ApiError, ConnectionError):
                    await asyncio.sleep(1)
                    continue
            await asyncio.sleep(LEASE_PERIOD_S)

    async def _renew_once(self) -> None:
        spec = {
            "holderIdentity": self.name,
            "leaseDurationSeconds": 40,
            "renewTime": meta.format_micro_time(self._clock.now()),
        }
        try:
            await self._client.patch(LEASES, self.name, "kube-node-lease", {"spec": spec})
        except status.NotFound:
            described = {"name": self.name, "namespace": "kube-node-lease"}
            await self._client.create(LEASES, {"metadata": described, "spec": spec})
        node = await self._client.get(NODES, self.name)
        if not conditions.is_true(node, "Ready"):
            at = meta.format_time(self._clock.now())
            ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": at}
            node["status"]["conditions"] = conditions.updated(node["status"]["conditions"], ready, at)
            await self._client.update(NODES, node, subresource="status")

    def speak(self) -> None:
        """Ends the silence: everything is looked at again."""
        self.is_silent = False
        for key in self._pods.cache.keys():  # noqa: SIM118 (a cache is no mapping)
            self._queue.add(key)

    async def _work(self) -> None:
        while (key := await self._queue.get()) is not None:
            try:
                if not self.is_silent:
                    await self._sync(key)
                self._queue.forget(key)
            except (status.ApiError, ConnectionError):
                self._queue.add_rate_limited(key)
            finally:
                self._queue.done(key)

    async def _sync(self, key: str) -> None:
        pod = self._pods.cache.get(key)
        present = {meta.uid(each) for each in self._pods.cache.list()}
        self.running = {uid: name for uid, name in self.running.items() if uid in present}
        if pod is None:
            return
        now = self._clock.now()
        if meta.is_deleting(pod):
            due = self._began.setdefault(f"end {meta.uid(pod)}", now + self._random.uniform(0.1, 3))
            if now < due:
                self._queue.add_after(key, due - now)
                return
            self.running.pop(meta.uid(pod), None)
            await self._client.delete(PODS, meta.name(pod), meta.namespace(pod), grace_period_s=0, uid=meta.uid(pod))
            return
        phase = pod["status"].get("phase")
        if phase in ("Succeeded", "Failed"):
            return
        began = self._began.setdefault(meta.uid(pod), now + self._random.uniform(0.2, 3))
        if now < began:
            self._queue.add_after(key, began - now)
            return
        self.running[meta.uid(pod)] = meta.name(pod)
        image = pod["spec"]["containers"][0].get("image", "")
        if image in ("once", "fails") and now >= began + RUN_S:
            await self._report(pod, "Succeeded" if image == "once" else "Failed", ready=False)
            return
        if image in ("once", "fails"):
            self._queue.add_after(key, began + RUN_S - now)
        wants_ready = image != "broken"
        if phase != "Running" or conditions.is_true(pod, "Ready") != wants_ready:
            await self._report(pod, "Running", ready=wants_ready)

    async def _report(self, pod: Object, phase: str, *, ready: bool) -> None:
        if phase in ("Succeeded", "Failed"):
            self.running.pop(meta.uid(pod), None)
        at = meta.format_time(self._clock.now())
        seen: dict[str, Any] = {**pod["status"], "phase": phase}
        if not seen.get("podIP"):
            self._addresses += 1
            address = f"10.244.{self.number}.{self._addresses % 250 + 1}"
            seen |= {"podIP": address, "podIPs": [{"ip": address}], "startTime": at}
        for kind in ("Ready", "ContainersReady", "Initialized"):
            value = "True" if ready or kind == "Initialized" else "False"
            seen["conditions"] = conditions.updated(seen.get("conditions"), {"type": kind, "status": value}, at)
        await self._client.update(PODS, {**pod, "status": seen}, subresource="status")
