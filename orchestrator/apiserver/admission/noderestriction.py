"""NodeRestriction: what a kubelet writes concerns its own node and the pods on it.

The Node authorizer has let it write pods, nodes, leases and tokens; here it is seen what the write says.
Errors: Forbidden, in kube-apiserver's words. Source: Kubernetes docs, Admission Control, NodeRestriction.
"""

from __future__ import annotations

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODS
from orchestrator.apiserver.admission.chain import refuse
from orchestrator.apiserver.authz.node import LEASE_NAMESPACE, node_name
from orchestrator.apiserver.authz.podreferences import references
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes

RESTRICTED_DOMAIN = "node-restriction.kubernetes.io"
KUBERNETES_DOMAINS = ("kubernetes.io", "k8s.io")
KUBELET_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname", "kubernetes.io/arch", "kubernetes.io/os", "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type", "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
        "topology.kubernetes.io/zone", "topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region", "failure-domain.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
    }
)  # fmt: skip


class NodeRestriction:
    operations = ("CREATE", "UPDATE", "DELETE")
    resources = (
        "pods", "pods/status", "pods/eviction", "nodes", "nodes/status", "serviceaccounts/token",
        "leases.coordination.k8s.io", "csinodes.storage.k8s.io",
    )  # fmt: skip

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def mutate(self, attributes: Attributes) -> None:
        node = node_name(attributes.user)
        if node is None:
            return
        match attributes.resource, attributes.subresource:
            case "pods", "":
                why = self._pod(node, attributes)
            case "pods", "status":
                why = pod_status(node, attributes)
            case "pods", "eviction":
                pod = self._lookup.get(PODS, attributes.namespace, attributes.name)
                mine = pod is None or is_on(pod, node)
                why = "" if mine else f"node {node} can only evict pods with spec.nodeName set to itself"
            case "nodes", _:
                why = own_node(node, attributes)
            case "serviceaccounts", _:
                why = self._token(node, attributes)
            case "leases", _:
                why = own_lease(node, attributes)
            case _:
                mine = meta.name(attributes.object or attributes.old_object or {}) == node
                why = "" if mine else "can only access CSINode with the same name as the requesting node"
        if why:
            raise refuse(attributes, why)

    def _pod(self, node: str, attributes: Attributes) -> str:
        if attributes.operation == "DELETE":
            pod = attributes.old_object or self._lookup.get(PODS, attributes.namespace, attributes.name)
            if pod is None or is_on(pod, node):
                return ""
            return f'node "{node}" can only delete pods with spec.nodeName set to itself'
        if attributes.operation != "CREATE" or attributes.object is None:
            return (
                f'unexpected operation "{attributes.operation}", node "{node}" can only create and delete mirror pods'
            )
        return mirror_pod(node, attributes.object)

    def _token(self, node: str, attributes: Attributes) -> str:
        reference = ((attributes.object or {}).get("spec") or {}).get("boundObjectRef") or {}
        if (reference.get("apiVersion"), reference.get("kind")) != ("v1", "Pod") or not reference.get("name"):
            return "node requested token not bound to a pod"
        if not reference.get("uid"):
            return "node requested token with a pod binding without a uid"
        pod = self._lookup.get(PODS, attributes.namespace, reference["name"])
        if pod is not None and meta.uid(pod) == reference["uid"] and not is_on(pod, node):
            return "node requested token bound to a pod scheduled on a different node"
        return ""


def is_on(pod: Object, node: str) -> bool:
    return (pod.get("spec") or {}).get("nodeName") == node


def mirror_pod(node: str, pod: Object) -> str:
    if meta.MIRROR_ANNOTATION not in meta.annotations(pod):
        return f'pod does not have "{meta.MIRROR_ANNOTATION}" annotation, node "{node}" can only create mirror pods'
    if not is_on(pod, node):
        return f'node "{node}" can only create pods with spec.nodeName set to itself'
    owners = meta.owner_references(pod)
    if len(owners) > 1:
        return f'node "{node}" can only create pods with a single owner reference set to itself'
    for owner in owners:
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            return f'node "{node}" can only create pods with an owner reference set to itself'
    words = {"serviceaccounts": "a service account", "secrets": "secrets", "configmaps": "configmaps"}
    for resource, _ in sorted(references(pod)):
        what = words.get(resource, resource)
        return f'node "{node}" can not create pods that reference {what}'
    return ""


def pod_status(node: str, attributes: Attributes) -> str:
    new, old = attributes.object or {}, attributes.old_object or {}
    if not is_on(old, node):
        return f'node "{node}" can only update pod status for pods with spec.nodeName set to itself'
    if meta.labels(new) != meta.labels(old):
        return f'node "{node}" cannot update labels through pod status'
    return ""


def own_node(node: str, attributes: Attributes) -> str:
    new, old = attributes.object, attributes.old_object
    name = attributes.name or meta.name(new or old or {})
    if name != node:
        return f'node "{node}" is not allowed to modify node "{name}"'
    if new is None or attributes.operation == "DELETE":
        return ""
    if attributes.operation == "CREATE":
        forbidden = forbidden_labels(set(meta.labels(new)))
        if forbidden:
            return f'node "{node}" is not allowed to set the following labels: {", ".join(forbidden)}'
        return ""
    old = old or {}
    if meta.owner_references(new) != meta.owner_references(old):
        return f'node "{node}" is not allowed to modify ownerReferences'
    if ((new.get("spec") or {}).get("taints") or []) != ((old.get("spec") or {}).get("taints") or []):
        return f'node "{node}" is not allowed to modify taints'
    before, after = meta.labels(old), meta.labels(new)
    changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    forbidden = forbidden_labels(changed)
    return f"is not allowed to modify labels: {', '.join(forbidden)}" if forbidden else ""


def forbidden_labels(keys: set[str]) -> list[str]:
    """Labels by which others may keep pods away from a node that they do not trust, and unknown ones of Kubernetes."""
    return sorted(key for key in keys if key not in KUBELET_LABELS and is_reserved(key.partition("/")))


def is_reserved(parts: tuple[str, str, str]) -> bool:
    domain = parts[0] if parts[1] else ""
    if within(domain, (RESTRICTED_DOMAIN,)):
        return True
    return within(domain, KUBERNETES_DOMAINS) and not within(domain, KUBELET_DOMAINS)


def within(domain: str, parents: tuple[str, ...]) -> bool:
    return any(domain == parent or domain.endswith(f".{parent}") for parent in parents)


def own_lease(node: str, attributes: Attributes) -> str:
    if attributes.namespace != LEASE_NAMESPACE:
        return f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
    if meta.name(attributes.object or attributes.old_object or {}) not in ("", node):
        return "can only access node lease with the same name as the requesting node"
    return ""
