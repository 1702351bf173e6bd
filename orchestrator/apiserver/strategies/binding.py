"""Binding: the scheduler says on which node a pod shall run.

`pods/binding` (and the older `bindings`) sets spec.nodeName, once, and the condition PodScheduled. Annotations and
labels of the binding are added to the pod's. Errors: BadRequest, Invalid for the binding; Conflict for a pod that is
bound already, is going away, or waits for scheduling gates.
Source: core/v1 Binding; messages of kube-apiserver.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.api import conditions, meta
from orchestrator.api.clock import Clock
from orchestrator.api.kinds import faults
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODS
from orchestrator.api.status import ApiError, BadRequest, conflict, invalid
from orchestrator.apiserver.handlers import Call, Handler
from orchestrator.apiserver.strategies.rewrite import Rewriter

SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


class PodBinding:
    def __init__(self, rewriter: Rewriter, clock: Clock) -> None:
        self._rewriter = rewriter
        self._clock = clock

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        return {("pods", "binding"): self.bind, ("bindings", ""): self.bind}

    async def bind(self, call: Call) -> Object:
        binding = call.attributes.object or {}
        name = call.attributes.name or meta.name(binding)
        if meta.name(binding) != name:
            raise BadRequest("name in URL does not match name in Binding object")
        check(binding)
        now = meta.format_time(self._clock.now())
        if not call.attributes.dry_run:
            await self._rewriter.rewrite(PODS, call.attributes.namespace, name, lambda pod: bound(pod, binding, now))
        return SUCCESS


def check(binding: Object) -> None:
    target = binding.get("target") or {}
    causes = []
    if target.get("kind", "Node") not in ("", "Node"):
        causes.append(faults.not_supported("target.kind", target["kind"], ["Node", "<empty>"]))
    if not target.get("name"):
        causes.append(faults.required("target.name"))
    if causes:
        raise invalid("", "Binding", meta.name(binding), causes)


def bound(pod: Object, binding: Object, now: str) -> Object:
    """The pod on its node."""
    why = reason_against(pod, binding)
    if why:
        raise refusal(pod, why)
    metadata = dict(pod["metadata"])
    for field in ("annotations", "labels"):
        if added := meta.metadata(binding).get(field):
            metadata[field] = {**(metadata.get(field) or {}), **added}
    status = dict(pod.get("status") or {})
    scheduled = {"type": "PodScheduled", "status": "True"}
    status["conditions"] = conditions.updated(status.get("conditions"), scheduled, now)
    spec = {**pod["spec"], "nodeName": binding["target"]["name"]}
    return {**pod, "metadata": metadata, "spec": spec, "status": status}


def reason_against(pod: Object, binding: Object) -> str:
    name, wanted = meta.name(pod), meta.uid(binding)
    if wanted and wanted != meta.uid(pod):
        return f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {meta.uid(pod)}"
    if meta.is_deleting(pod):
        return f"pod {name} is being deleted, cannot be assigned to a host"
    if node := pod["spec"].get("nodeName"):
        return f'pod {name} is already assigned to node "{node}"'
    if pod["spec"].get("schedulingGates"):
        return f"pod {name} has non-empty .spec.schedulingGates"
    return ""


def refusal(pod: Object, why: str) -> ApiError:
    return conflict("", "pods/binding", meta.name(pod), why)
