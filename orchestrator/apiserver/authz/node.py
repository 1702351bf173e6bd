"""The Node authorizer: a kubelet reads what the pods bound to its node need, and acts for its own node only.

A node is the user `system:node:<name>` in the group system:nodes. Objects that pods refer to (secrets, config maps,
claims, service accounts) are counted per node as pods come and go; volumes are reached through their claims. For other
kinds the fixed rules of the role system:node hold. What a write may *say* is checked by the NodeRestriction admission.
Source: Kubernetes docs, "Using Node Authorization"; reasons as kube-apiserver words them.
"""

from __future__ import annotations

from collections import Counter

from orchestrator.api import meta
from orchestrator.api.label_grammar import SelectorError
from orchestrator.api.meta import Object
from orchestrator.api.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS, VOLUMEATTACHMENTS
from orchestrator.api.selectors import parse_fields
from orchestrator.api.wire import Identity
from orchestrator.apiserver.authz.bootstrap import NODE_RULES
from orchestrator.apiserver.authz.podreferences import references
from orchestrator.apiserver.authz.rules import Rule
from orchestrator.apiserver.lookup import Lookup
from orchestrator.apiserver.request import Attributes, Decision

NODES_GROUP = "system:nodes"
USER_PREFIX = "system:node:"
LEASE_NAMESPACE = "kube-node-lease"
READ = ("get", "list", "watch")
OWN_OBJECT_VERBS = ("get", "create", "update", "patch", "delete")

ALLOWED = Decision(True)
Needed = tuple[str, str, str]  # plural, namespace, name


def node_name(user: Identity) -> str | None:
    """The node that a user is; None for anybody else, "" for a node that does not say which."""
    if NODES_GROUP not in user.groups:
        return None
    return user.name.removeprefix(USER_PREFIX) if user.name.startswith(USER_PREFIX) else None


class NodeAuthorizer:
    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._needed: dict[str, Counter[Needed]] = {}
        self._rules = tuple(Rule.from_json(rule) for rule in NODE_RULES)
        lookup.subscribe(PODS, self._pod_changed)

    def authorize(self, attributes: Attributes) -> Decision:
        node = node_name(attributes.user)
        if node is None:
            return Decision(False)
        if node == "":
            return Decision(False, f'unknown node for user "{attributes.user.name}"')
        if attributes.is_resource:
            match attributes.group_resource:
                case "secrets" | "configmaps":
                    return self._read(node, attributes)
                case "persistentvolumeclaims" if attributes.subresource == "status":
                    return self._update_status(node, attributes)
                case "persistentvolumeclaims" | "persistentvolumes" | "volumeattachments.storage.k8s.io":
                    return self._get(node, attributes)
                case "serviceaccounts":
                    return self._create_token(node, attributes)
                case "leases.coordination.k8s.io":
                    return lease(node, attributes)
                case "csinodes.storage.k8s.io":
                    return own_object(node, attributes, "a CSINode", "CSINode")
                case "nodes":
                    return own_node(node, attributes)
                case "pods":
                    return self._pod(node, attributes)
        return Decision(any(rule.allows(attributes) for rule in self._rules))

    def _read(self, node: str, asked: Attributes) -> Decision:
        if asked.verb not in READ:
            return Decision(False, "can only read resources of this type")
        if asked.subresource:
            return Decision(False, "cannot read subresource")
        if not asked.namespace:
            return Decision(False, "can only read namespaced object of this type")
        return self._related(node, asked)

    def _get(self, node: str, asked: Attributes) -> Decision:
        if asked.verb != "get":
            return Decision(False, "can only get individual resources of this type")
        if asked.subresource:
            return Decision(False, "cannot get subresource")
        return self._related(node, asked)

    def _update_status(self, node: str, asked: Attributes) -> Decision:
        if asked.verb not in ("update", "patch"):
            return Decision(False, "can only get/update/patch this type")
        return self._related(node, asked)

    def _create_token(self, node: str, asked: Attributes) -> Decision:
        if asked.verb != "create" or not asked.name:
            return Decision(False, "can only create tokens for individual service accounts")
        if asked.subresource != "token":
            return Decision(False, "can only create token subresource of serviceaccount")
        return self._related(node, asked)

    def _pod(self, node: str, asked: Attributes) -> Decision:
        """Which pods a create or delete may concern is for NodeRestriction, which sees the object."""
        match asked.subresource, asked.verb:
            case "", "get":
                pod = self._lookup.get(PODS, asked.namespace, asked.name)
                mine = pod is not None and (pod.get("spec") or {}).get("nodeName") == node
                return ALLOWED if mine else Decision(False, unrelated(node))
            case "", "list" | "watch":
                if selected(asked.field_selector, "spec.nodeName") == node:
                    return ALLOWED
                return Decision(False, "can only list/watch pods with spec.nodeName field selector")
            case ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create"):
                return ALLOWED
        return Decision(False)

    def _related(self, node: str, asked: Attributes) -> Decision:
        if not asked.name:
            return Decision(False, "No Object name found")
        if self._needs(node, asked.resource, asked.namespace, asked.name):
            return ALLOWED
        return Decision(False, unrelated(node))

    def _needs(self, node: str, resource: str, namespace: str, name: str) -> bool:
        needed = self._needed.get(node, Counter())
        if resource == "persistentvolumes":
            volume = self._lookup.get(PERSISTENTVOLUMES, "", name)
            return volume is not None and self._claimed(needed, volume)
        if resource == "volumeattachments":
            attachment = self._lookup.get(VOLUMEATTACHMENTS, "", name)
            return attachment is not None and (attachment.get("spec") or {}).get("nodeName") == node
        if needed[resource, namespace, name] > 0:
            return True
        return resource == "secrets" and self._secret_of_a_volume(needed, namespace, name)

    def _claimed(self, needed: Counter[Needed], volume: Object) -> bool:
        """Whether a pod of the node uses the claim that the volume is bound to."""
        reference = (volume.get("spec") or {}).get("claimRef") or {}
        namespace, name = reference.get("namespace", ""), reference.get("name", "")
        claim = self._lookup.get(PERSISTENTVOLUMECLAIMS, namespace, name)
        bound = claim is not None and (claim.get("spec") or {}).get("volumeName") == meta.name(volume)
        return bound and needed["persistentvolumeclaims", namespace, name] > 0

    def _secret_of_a_volume(self, needed: Counter[Needed], namespace: str, name: str) -> bool:
        """A CSI volume may need a secret to be mounted; it is named by the volume, not by the pod."""
        for resource, claim_namespace, claim_name in needed:
            if resource != "persistentvolumeclaims":
                continue
            claim = self._lookup.get(PERSISTENTVOLUMECLAIMS, claim_namespace, claim_name) or {}
            volume = self._lookup.get(PERSISTENTVOLUMES, "", (claim.get("spec") or {}).get("volumeName", "")) or {}
            source = (volume.get("spec") or {}).get("csi") or {}
            for field in ("nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"):
                secret = source.get(field) or {}
                if (secret.get("namespace"), secret.get("name")) == (namespace, name):
                    return True
        return False

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        before, after = needs_of(old), needs_of(new)
        if before == after:
            return
        for node, thing in before - after:
            counted = self._needed[node]
            counted[thing] -= 1
            if counted[thing] <= 0:
                del counted[thing]
            if not counted:
                del self._needed[node]
        for node, thing in after - before:
            self._needed.setdefault(node, Counter())[thing] += 1


def needs_of(pod: Object | None) -> set[tuple[str, Needed]]:
    """What a pod makes its node need. A mirror pod makes it need nothing: the kubelet itself writes those."""
    node = ((pod or {}).get("spec") or {}).get("nodeName")
    if pod is None or not node or meta.MIRROR_ANNOTATION in meta.annotations(pod):
        return set()
    namespace = meta.namespace(pod)
    return {(node, (resource, namespace, name)) for resource, name in references(pod)}


def lease(node: str, asked: Attributes) -> Decision:
    if asked.verb not in OWN_OBJECT_VERBS:
        return Decision(False, "can only get, create, update, patch, or delete a node lease")
    if asked.namespace != LEASE_NAMESPACE:
        return Decision(False, f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
    if asked.verb != "create" and asked.name != node:
        return Decision(False, "can only access node lease with the same name as the requesting node")
    return ALLOWED


def own_object(node: str, asked: Attributes, article: str, kind: str) -> Decision:
    if asked.verb not in OWN_OBJECT_VERBS:
        return Decision(False, f"can only get, create, update, patch, or delete {article}")
    if asked.subresource:
        return Decision(False, f"cannot authorize {kind} subresources")
    if asked.verb != "create" and asked.name != node:
        return Decision(False, f"can only access {kind} with the same name as the requesting node")
    return ALLOWED


def own_node(node: str, asked: Attributes) -> Decision:
    match asked.subresource, asked.verb:
        case ("", "create" | "update" | "patch") | ("status", "update" | "patch"):
            return ALLOWED
        case "", "get" | "list" | "watch":
            if asked.name == node:
                return ALLOWED
            asked_for = f"'{asked.name}'" if asked.name else "all nodes"
            return Decision(False, f"node '{node}' cannot read {asked_for}, only its own Node object")
    return Decision(False)


def unrelated(node: str) -> str:
    return f"no relationship found between node '{node}' and this object"


def selected(field_selector: str, path: str) -> str | None:
    """The value that a field selector fixes for a path."""
    try:
        return parse_fields(field_selector).required(path)
    except SelectorError:
        return None
