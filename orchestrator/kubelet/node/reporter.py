"""Keeps this node's object and lease in the API: registered once, status on change and every few minutes, lease every
ten seconds.

The lease is the heartbeat that the node controller watches; the status carries what changes rarely. A Node that someone
deleted is registered again, but not one that was cordoned: by drain and delete a node is taken out, until its kubelet
starts anew. (Upstream's kubelet registers once, whatever becomes of its Node.) While the API cannot be reached the node
goes on as it is.
Source: KEP-589 (node leases); Kubernetes docs, "Nodes", heartbeats.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from orchestrator.api import conditions, meta
from orchestrator.api.clock import Clock
from orchestrator.api.meta import Object
from orchestrator.api.resources import LEASES, NODES
from orchestrator.api.status import AlreadyExists, ApiError, Conflict, NotFound
from orchestrator.client.client import Client
from orchestrator.client.events import EventRecorder
from orchestrator.kubelet.config import Config
from orchestrator.kubelet.node import capacity, csinode, status
from orchestrator.kubelet.node.status import Measured
from orchestrator.kubelet.porter import NodeInfo, Porter, PorterFailure
from orchestrator.kubelet.runtime.interface import Image, Runtime, RuntimeFailure

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
RETRY_S = 0.5
IMAGES_LOOK_S = 60.0  # a list of images costs more than the rest of the status together


class Reporter:
    def __init__(
        self, config: Config, client: Client, recorder: EventRecorder, clock: Clock, runtime: Runtime, porter: Porter
    ) -> None:
        self._config, self._client, self._recorder, self._clock = config, client, recorder, clock
        self._runtime, self._porter = runtime, porter
        self._lease: Object | None = None
        self._machine = status.machine()
        self._images: list[Image] = []
        self._images_at = float("-inf")
        self._reported_at = float("-inf")
        self._due = asyncio.Event()
        self._writing = (
            asyncio.Lock()
        )  # of two writes the later must come last: volumesInUse keeps disks from being taken
        self.volumes_in_use: list[str] | None = None
        self.node: Object | None = None
        self._is_dismissed = False  # taken out: drained and deleted
        self.registered = asyncio.Event()
        self.capacity = capacity.capacity(Path(config.root_dir), config.pods_max, config.capacity)
        self.allocatable = capacity.allocatable(self.capacity, config.reserved)

    def on_node(self, old: Object | None, new: Object | None) -> None:
        """The informer's handler."""
        if new is None:
            self._lose(old)
            self._due.set()
        self.node = new

    def _lose(self, last: Object | None) -> None:
        if last is not None and (last.get("spec") or {}).get("unschedulable"):
            self._is_dismissed = True
            log.info("node taken out", extra={"node": self._config.node_name})
        self.node = None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_lease())
            while True:
                await self._report_or_wait()
                await self._pause(self._config.status_look_s if self._is_ready() else RETRY_S)

    def _is_ready(self) -> bool:
        return self.node is not None and conditions.is_true(self.node, "Ready")

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._due.wait()
        except TimeoutError:
            return
        self._due.clear()

    async def _report_or_wait(self) -> None:
        while True:
            try:
                await self.report()
                return
            except (ApiError, ConnectionError) as error:
                log.warning("node status not reported", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)

    async def report(self) -> None:
        """Looks at the node, and tells the API what is new."""
        if self._is_dismissed:
            return
        node = self.node
        if node is None:
            node = await self._register()
            await csinode.ensure(self._client, node)
        measured = await self._measure()
        async with self._writing:
            now = self._clock.now()
            made = status.node_status(self._config, measured, node.get("status") or {}, now)
            made["volumesInUse"] = self.volumes_in_use
            is_due = now - self._reported_at >= self._config.status_report_s
            if not is_due and status.is_same(node.get("status") or {}, made):
                return
            try:
                # Addresses are a list keyed by type for patches, and two of ours share one: the list is replaced.
                patch = {"status": {**made, "addresses": [*made["addresses"], {"$patch": "replace"}]}}
                self.node = await self._client.patch(
                    NODES, self._config.node_name, "", patch, "strategic", subresource="status"
                )
            except NotFound:
                self._lose(node)
                raise
        if self._reported_at == float("-inf"):
            log.info("node reported", extra={"node": self._config.node_name})
        self._reported_at = now
        self.registered.set()

    async def report_in_use(self, names: list[str] | None) -> Object:
        """Writes which volumes this node uses, at once; the node as it is then."""
        self.volumes_in_use = names
        async with self._writing:
            patch = {"status": {"volumesInUse": self.volumes_in_use}}
            self.node = await self._client.patch(NODES, self._config.node_name, "", patch, subresource="status")
            return self.node

    async def _register(self) -> Object:
        wanted = status.new_node(self._config)
        if not self._config.register_node:
            self.node = await self._client.get(NODES, self._config.node_name)
            return self.node
        try:
            self.node = await self._client.create(NODES, wanted)
            log.info("node registered", extra={"node": self._config.node_name})
        except AlreadyExists:
            found = await self._client.get(NODES, self._config.node_name)
            missing = {key: value for key, value in meta.labels(wanted).items() if meta.labels(found).get(key) != value}
            if missing:
                patch = {"metadata": {"labels": missing}}
                found = await self._client.patch(NODES, self._config.node_name, "", patch, "strategic")
            self.node = found
        self._recorder.event(
            {**self.node, "metadata": {**self.node["metadata"], "uid": self._config.node_name}},
            "Normal",
            "Starting",
            "Starting kubelet.",
        )
        return self.node

    async def _measure(self) -> Measured:
        runtime_version = runtime_error = porter_error = ""
        info = NodeInfo(0, ())
        try:
            runtime_version = await self._runtime.version()
            if self._clock.now() - self._images_at >= IMAGES_LOOK_S:
                self._images, self._images_at = await self._runtime.images(), self._clock.now()
        except RuntimeFailure as error:
            runtime_error = str(error)
        try:
            info = await self._porter.node_info()
            if not info.is_network_ready:
                porter_error = "the pod network is not configured yet"
        except PorterFailure as error:
            porter_error = str(error)
        return Measured(
            runtime_version=runtime_version,
            runtime_error=runtime_error,
            porter_error=porter_error,
            enforces=info.enforces if info.cgroup_version != 2 else ("cpu", "memory", "pids"),
            memory_available_kib=status.memory_available_kib(),
            disk_available_percent=status.disk_available_percent(Path(self._config.root_dir)),
            pids_available_percent=status.pids_available_percent(),
            capacity=self.capacity,
            allocatable=self.allocatable,
            machine=self._machine,
            images=self._images,
        )

    async def _keep_lease(self) -> None:
        while True:
            try:
                await self._renew_lease()
                await asyncio.sleep(self._config.lease_renew_s)
            except (ApiError, ConnectionError) as error:
                log.warning("lease not renewed", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)

    async def _renew_lease(self) -> None:
        if self._is_dismissed:
            return
        renewed = {"renewTime": meta.format_micro_time(self._clock.now())}
        if self._lease is None:
            self._lease = await self._find_or_make_lease(renewed)
            return
        spec = {**self._lease["spec"], **renewed}
        try:
            self._lease = await self._client.update(LEASES, self._owned({**self._lease, "spec": spec}))
        except (NotFound, Conflict):
            self._lease = None
            raise

    async def _find_or_make_lease(self, renewed: dict[str, str]) -> Object:
        name = self._config.node_name
        spec = {"holderIdentity": name, "leaseDurationSeconds": self._config.lease_duration_s, **renewed}
        try:
            found = await self._client.get(LEASES, name, LEASE_NAMESPACE)
            spec = {**(found.get("spec") or {}), **spec}
            return await self._client.update(LEASES, self._owned({**found, "spec": spec}))
        except NotFound:
            metadata: Object = {"name": name, "namespace": LEASE_NAMESPACE}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            return await self._client.create(LEASES, self._owned(lease))

    def _owned(self, lease: Object) -> Object:
        """It goes when its Node does. The first may be there before the Node is."""
        if self.node is None or meta.owner_references(lease):
            return lease
        owner = meta.owner_reference({"apiVersion": "v1", "kind": "Node", **self.node}, controller=False)
        return {**lease, "metadata": {**meta.metadata(lease), "ownerReferences": [owner]}}
