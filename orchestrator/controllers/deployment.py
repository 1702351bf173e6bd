"""Deployment: carries out what `rollout.py` decides, and reports what `rollout_status.py` makes of it.

Every pass acts on what informers show; before it acts again the cache must show what it wrote. A ReplicaSet's name
comes from its template, so creating it twice is harmless: one that exists with our template and owner is ours, one with
another template is a collision of hashes, counted in the status and so avoided by the next name.
Source: Concepts, Deployment.
"""

from __future__ import annotations

from orchestrator.api import meta, selectors, status
from orchestrator.api.meta import Object
from orchestrator.api.resources import DEPLOYMENTS, PODS, REPLICASETS
from orchestrator.client.loop import Loop
from orchestrator.controllers import claim, pods, rollout, rollout_status
from orchestrator.controllers.context import Context
from orchestrator.controllers.expectations import RECHECK_S, Expectations
from orchestrator.controllers.fields import copied, replicas, spec, status_of, with_status


class DeploymentController:
    """Moves Deployments towards their template and size."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._recorder = context.recorder("deployment-controller")
        self.loop = Loop("deployment", self.reconcile)
        self._deployments = context.informers.informer(DEPLOYMENTS)
        self._replica_sets = context.informers.informer(REPLICASETS, indexers=claim.INDEXERS)
        self._pods = context.informers.informer(PODS, indexers=claim.INDEXERS)
        self._expectations = Expectations(self._replica_sets)
        self._deployments.add_handler(self._deployment_changed)
        self._replica_sets.add_handler(self._replica_set_changed)
        self._pods.add_handler(self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _deployment_changed(self, old: Object | None, new: Object | None) -> None:
        key = meta.key(new or old or {})
        if new is None:
            self._expectations.forget(key)
        self.loop.queue.add(key)

    def _replica_set_changed(self, old: Object | None, new: Object | None) -> None:
        for each in (old, new):
            reference = meta.controller_of(each) if each else None
            if each and reference and reference["kind"] == "Deployment":
                self.loop.queue.add(meta.join_key(meta.namespace(each), reference["name"]))
        if new is not None and not meta.controller_of(new) and (old is None or meta.controller_of(old)):
            for deployment in self._deployments.cache.list():
                selector = selectors.from_json(spec(deployment).get("selector"))
                if meta.namespace(deployment) == meta.namespace(new) and selector.matches(meta.labels(new)):
                    self.loop.queue.add(meta.key(deployment))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """Recreate waits for old pods to end; nothing else depends on single pods."""
        ended = old is not None and (new is None or (pods.is_terminal(new) and not pods.is_terminal(old)))
        reference = meta.controller_of(old) if old is not None and ended else None
        if old is None or reference is None or reference["kind"] != "ReplicaSet":
            return
        replica_set = self._replica_sets.cache.get(meta.join_key(meta.namespace(old), reference["name"]))
        owner = meta.controller_of(replica_set) if replica_set else None
        if owner and owner["kind"] == "Deployment":
            key = meta.join_key(meta.namespace(old), owner["name"])
            deployment = self._deployments.cache.get(key)
            if deployment and rollout.strategy(deployment) == "Recreate":
                self.loop.queue.add(key)

    async def reconcile(self, key: str) -> None:
        deployment = self._deployments.cache.get(key)
        if deployment is None:
            return
        if not self._expectations.are_met(key):
            self.loop.queue.add_after(key, RECHECK_S)
            return
        selector = selectors.from_json(spec(deployment).get("selector"))
        if selector.is_everything:
            message = "This deployment is selecting all pods. A non-empty selector is required."
            self._recorder.event(deployment, "Warning", "SelectingAll", message)
            return
        owned = await claim.claim(self._client, DEPLOYMENTS, deployment, selector, self._replica_sets)
        seen = rollout.Observed(deployment, tuple(owned), self._running(owned))
        created, failure, error = "", "", None
        try:
            actions = rollout.plan(seen)
            for action in actions:
                created = await self._act(key, deployment, action) or created
            if any(isinstance(action, rollout.SetRevision) for action in actions):
                return  # the Deployment is another now: its own event brings the next pass
        except status.ApiError as caught:
            if isinstance(caught, (status.Conflict, status.NotFound)):
                raise
            failure, error = str(caught), caught
        new, old = rollout.split(deployment, owned)
        now = self._clock.now()
        wanted = rollout_status.next_status(deployment, new, old, now, created=created, failure=failure)
        if wanted != status_of(deployment):
            await self._client.update(DEPLOYMENTS, with_status(deployment, wanted), subresource="status")
        if (wait := rollout_status.stuck_in_s(deployment, wanted, now)) is not None:
            self.loop.queue.add_after(key, wait)
        if error is not None:
            raise error

    def _running(self, owned: list[Object]) -> dict[str, int]:
        cache = self._pods.cache
        return {
            meta.uid(each): sum(not pods.is_terminal(pod) for pod in cache.by_index("controller", meta.uid(each)))
            for each in owned
        }

    async def _act(self, key: str, deployment: Object, action: rollout.Action) -> str:
        """Carries one action out; returns the name of a ReplicaSet that it created."""
        match action:
            case rollout.CreateReplicaSet(made):
                return await self._create(key, deployment, made)
            case rollout.ScaleReplicaSet(replica_set, size, annotations):
                await self._scale(key, deployment, replica_set, size, dict(annotations))
            case rollout.UpdateReplicaSet(replica_set, annotations, min_ready_s):
                changed = copied(replica_set)
                meta.metadata(changed).setdefault("annotations", {}).update(annotations)
                changed["spec"]["minReadySeconds"] = min_ready_s
                self._expectations.written(key, await self._client.update(REPLICASETS, changed))
            case rollout.DeleteReplicaSet(replica_set):
                self._expectations.deleting(key, [replica_set])
                try:
                    await self._client.delete(
                        REPLICASETS, meta.name(replica_set), meta.namespace(replica_set), uid=meta.uid(replica_set)
                    )
                except status.NotFound:
                    self._expectations.not_deleted(key, replica_set)
            case rollout.SetRevision(number):
                patch = {"metadata": {"annotations": {rollout.REVISION: number}}}
                await self._client.patch(DEPLOYMENTS, meta.name(deployment), meta.namespace(deployment), patch)
        return ""

    async def _create(self, key: str, deployment: Object, made: Object) -> str:
        name, size = meta.name(made), replicas(made)
        try:
            created = await self._client.create(REPLICASETS, made)
        except status.AlreadyExists:
            existing = await self._client.get(REPLICASETS, name, meta.namespace(made))
            self._expectations.written(key, existing)
            is_ours = meta.is_controlled_by(existing, deployment)
            if not (is_ours and rollout.split(deployment, [existing])[0]):
                await self._count_collision(deployment)
            return ""
        self._expectations.written(key, created)
        if size:
            self._recorder.event(
                deployment, "Normal", "ScalingReplicaSet", f"Scaled up replica set {name} from 0 to {size}"
            )
        return name

    async def _count_collision(self, deployment: Object) -> None:
        count = (status_of(deployment).get("collisionCount") or 0) + 1
        counted = with_status(deployment, {**status_of(deployment), "collisionCount": count})
        await self._client.update(DEPLOYMENTS, counted, subresource="status")
        raise status.Conflict("the name of the new ReplicaSet is taken")

    async def _scale(
        self, key: str, deployment: Object, replica_set: Object, size: int, annotations: dict[str, str]
    ) -> None:
        before = replicas(replica_set)
        changed = copied(replica_set)
        changed["spec"]["replicas"] = size
        meta.metadata(changed).setdefault("annotations", {}).update(annotations)
        self._expectations.written(key, await self._client.update(REPLICASETS, changed))
        if size != before:
            verb = "up" if size > before else "down"
            message = f"Scaled {verb} replica set {meta.name(replica_set)} from {before} to {size}"
            self._recorder.event(deployment, "Normal", "ScalingReplicaSet", message)
