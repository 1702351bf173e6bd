"""NamespaceLifecycle: nothing is created in a namespace that is absent or going away; some namespaces never go.

Source: Kubernetes docs, Admission Control, NamespaceLifecycle.
"""

from __future__ import annotations

from orchestrator.api import meta
from orchestrator.api.resources import NAMESPACES
from orchestrator.api.status import Cause, not_found
from orchestrator.apiserver.admission.chain import ANY, refuse
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes

IMMORTAL = ("default", "kube-system", "kube-public")
# Asking what one may do must work in a namespace that is being deleted too.
UNCHECKED = ("localsubjectaccessreviews.authorization.k8s.io",)


class NamespaceLifecycle:
    operations = ("CREATE", "DELETE")
    resources = (ANY, "pods/binding", "pods/eviction", "serviceaccounts/token")

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def mutate(self, attributes: Attributes) -> None:
        if attributes.operation == "DELETE":
            if attributes.group_resource == "namespaces" and attributes.name in IMMORTAL:
                raise refuse(attributes, "this namespace may not be deleted")
            return
        if not attributes.namespace or attributes.group_resource in (*UNCHECKED, "namespaces"):
            return
        namespace = self._lookup.get(NAMESPACES, "", attributes.namespace)
        if namespace is None:
            raise not_found("", "namespaces", attributes.namespace)
        if meta.is_deleting(namespace) or (namespace.get("status") or {}).get("phase") == "Terminating":
            name = attributes.namespace
            raise refuse(
                attributes,
                f"unable to create new content in namespace {name} because it is being terminated",
                [Cause("metadata.namespace", "NamespaceTerminating", f"namespace {name} is being terminated")],
            )
