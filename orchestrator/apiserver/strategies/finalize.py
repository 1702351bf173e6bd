"""namespaces/finalize: the namespace controller says that it has emptied a namespace that is being deleted.

Only spec.finalizers is taken from the request. When the last finalizer of a namespace with a deletion timestamp is
gone, so is the namespace. Errors: NotFound, Conflict where the request names a revision that is no longer current.
Source: Kubernetes docs, "Namespaces"; core/v1 NamespaceSpec.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import NAMESPACES
from orchestrator.api.status import BadRequest, conflict
from orchestrator.apiserver.handlers import Call, Handler
from orchestrator.apiserver.strategies.rewrite import Rewriter

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


class NamespaceFinalize:
    def __init__(self, rewriter: Rewriter) -> None:
        self._rewriter = rewriter

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        return {("namespaces", "finalize"): self.finalize}

    async def finalize(self, call: Call) -> Object:
        wanted = call.attributes.object or {}
        name = call.attributes.name
        if meta.name(wanted) != name:
            raise BadRequest(
                f"the name of the object ({meta.name(wanted)}) does not match the name on the URL ({name})"
            )
        return await self._rewriter.rewrite(NAMESPACES, "", name, lambda current: finalized(current, wanted))


def finalized(current: Object, wanted: Object) -> Object | None:
    version, uid = meta.resource_version(wanted), meta.uid(wanted)
    if version and version != meta.resource_version(current):
        raise conflict("", "namespaces", meta.name(current), MODIFIED)
    if uid and uid != meta.uid(current):
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta.uid(current)}"
        raise conflict("", "namespaces", meta.name(current), why)
    finalizers = (wanted.get("spec") or {}).get("finalizers") or []
    if not finalizers and meta.is_deleting(current) and not meta.finalizers(current):
        return None
    spec = {key: value for key, value in (current.get("spec") or {}).items() if key != "finalizers"}
    return {**current, "spec": spec | ({"finalizers": finalizers} if finalizers else {})}
