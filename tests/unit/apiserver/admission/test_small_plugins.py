"""The small admission plugins, one table each."""

from __future__ import annotations

import base64
from copy import deepcopy
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from orchestrator.api.meta import Object
from orchestrator.api.resources import INGRESSCLASSES, NODES, PODS, PRIORITYCLASSES, RUNTIMECLASSES, STORAGECLASSES
from orchestrator.api.status import Forbidden
from orchestrator.api.wire import Identity
from orchestrator.apiserver.admission.certificates import CertificateApproval, CertificateSubjectRestriction
from orchestrator.apiserver.admission.claimresize import PersistentVolumeClaimResize
from orchestrator.apiserver.admission.declaredfeatures import NodeDeclaredFeatures
from orchestrator.apiserver.admission.defaultclass import DefaultIngressClass, DefaultStorageClass
from orchestrator.apiserver.admission.defaulttolerationseconds import DefaultTolerationSeconds
from orchestrator.apiserver.admission.noderestriction import NodeRestriction
from orchestrator.apiserver.admission.podtopologylabels import PodTopologyLabels
from orchestrator.apiserver.admission.priority import Priority
from orchestrator.apiserver.admission.runtimeclass import RuntimeClass
from orchestrator.apiserver.admission.storageinuse import StorageObjectInUseProtection
from orchestrator.apiserver.admission.taintnodesbycondition import TaintNodesByCondition
from orchestrator.apiserver.lookup import MemoryLookup
from orchestrator.apiserver.request import Attributes, Decision

ANN = Identity("ann")
NODE = Identity("system:node:n1", ("system:nodes",))


def asked(obj: Object | None, resource: str = "pods", operation: str = "CREATE", **more: Any) -> Attributes:
    return Attributes(
        verb="create", resource=resource, object=obj, operation=operation, **{"user": ANN, "namespace": "d", **more}
    )


def pod(**spec: Any) -> Object:
    return {"metadata": {"name": "web", "namespace": "d"}, "spec": spec}


def priorities() -> Priority:
    lookup = MemoryLookup()
    lookup.put(PRIORITYCLASSES, {"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"})
    lookup.put(PRIORITYCLASSES, {"metadata": {"name": "usual"}, "value": 5, "globalDefault": True})
    return Priority(lookup)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        pytest.param({"priorityClassName": "high"}, ("high", 1000, "Never"), id="named"),
        pytest.param({}, ("usual", 5, "PreemptLowerPriority"), id="the-default"),
        pytest.param({"priority": 5}, ("usual", 5, "PreemptLowerPriority"), id="the-same-number"),
    ],
)
async def test_priority(spec: dict[str, Any], found: tuple[str, int, str]) -> None:
    obj = pod(**spec)
    await priorities().mutate(asked(obj))
    made = obj["spec"]
    assert (made["priorityClassName"], made["priority"], made["preemptionPolicy"]) == found


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"priorityClassName": "none"}, "no PriorityClass with name none was found"),
        (
            {"priority": 7},
            r"the integer value of priority \(7\) must not be provided in pod spec; priority admission controller "
            "computed 5 from the given PriorityClass name",
        ),
    ],
)
async def test_priority_refuses(spec: dict[str, Any], why: str) -> None:
    with pytest.raises(Forbidden, match=why):
        await priorities().mutate(asked(pod(**spec)))


async def test_one_default_priority_class() -> None:
    new = {"metadata": {"name": "other"}, "value": 6, "globalDefault": True}
    with pytest.raises(Forbidden, match="usual is already marked as default"):
        await priorities().validate(asked(new, "priorityclasses", namespace=""))


@pytest.mark.parametrize(
    ("tolerations", "added"),
    [
        pytest.param([], 2, id="none"),
        pytest.param([{"operator": "Exists"}], 0, id="everything"),
        pytest.param([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}], 1, id="one-of-them"),
        pytest.param([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}], 2, id="another-effect"),
    ],
)
async def test_default_tolerations(tolerations: list[dict[str, Any]], added: int) -> None:
    obj = pod(tolerations=tolerations)
    await DefaultTolerationSeconds().mutate(asked(obj))
    assert len(obj["spec"]["tolerations"]) == len(tolerations) + added


async def test_a_new_node_is_not_ready() -> None:
    node: Object = {"metadata": {"name": "n1"}}
    for _ in range(2):
        await TaintNodesByCondition().mutate(asked(node, "nodes"))
    assert node["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]


async def test_default_classes() -> None:
    lookup = MemoryLookup()
    marks = {"storageclass.kubernetes.io/is-default-class": "true"}
    for name, created in (("old", "2024"), ("new", "2025"), ("newer", "2025")):
        metadata = {"name": name, "creationTimestamp": created, "annotations": marks}
        lookup.put(STORAGECLASSES, {"metadata": metadata})
    claim: Object = {"metadata": {"name": "c"}, "spec": {}}
    await DefaultStorageClass(lookup).mutate(asked(claim, "persistentvolumeclaims"))
    assert claim["spec"]["storageClassName"] == "new"
    empty: Object = {"metadata": {"name": "c"}, "spec": {"storageClassName": ""}}
    await DefaultStorageClass(lookup).mutate(asked(empty, "persistentvolumeclaims"))
    assert empty["spec"]["storageClassName"] == ""
    lookup.put(
        INGRESSCLASSES,
        {"metadata": {"name": "nginx", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}},
    )
    ingress: Object = {"metadata": {"name": "i"}, "spec": {}}
    await DefaultIngressClass(lookup).mutate(asked(ingress, "ingresses", group="networking.k8s.io"))
    assert ingress["spec"]["ingressClassName"] == "nginx"


async def test_only_some_claims_grow() -> None:
    lookup = MemoryLookup()
    lookup.put(STORAGECLASSES, {"metadata": {"name": "grows"}, "allowVolumeExpansion": True})
    lookup.put(STORAGECLASSES, {"metadata": {"name": "stays"}})

    def claim(name: str, size: str) -> Object:
        return {
            "metadata": {"name": "c"},
            "spec": {"storageClassName": name, "resources": {"requests": {"storage": size}}},
        }

    plugin = PersistentVolumeClaimResize(lookup)
    await plugin.validate(asked(claim("grows", "2Gi"), "persistentvolumeclaims", old_object=claim("grows", "1Gi")))
    await plugin.validate(asked(claim("stays", "1Gi"), "persistentvolumeclaims", old_object=claim("stays", "1Gi")))
    with pytest.raises(Forbidden, match="must support resize"):
        await plugin.validate(asked(claim("stays", "2Gi"), "persistentvolumeclaims", old_object=claim("stays", "1Gi")))


CLASS = {
    "metadata": {"name": "kata"},
    "handler": "kata",
    "overhead": {"podFixed": {"memory": "64Mi"}},
    "scheduling": {"nodeSelector": {"kata": "true"}, "tolerations": [{"key": "kata", "operator": "Exists"}]},
}


async def test_a_runtime_class_adds_what_it_needs() -> None:
    lookup = MemoryLookup()
    lookup.put(RUNTIMECLASSES, CLASS)
    obj = pod(runtimeClassName="kata", nodeSelector={"disk": "ssd"})
    await RuntimeClass(lookup).mutate(asked(obj))
    assert obj["spec"]["overhead"] == {"memory": "64Mi"}
    assert obj["spec"]["nodeSelector"] == {"disk": "ssd", "kata": "true"}
    assert obj["spec"]["tolerations"] == [{"key": "kata", "operator": "Exists"}]
    for spec, why in (
        ({"runtimeClassName": "none"}, 'pod rejected: RuntimeClass "none" not found'),
        ({"overhead": {"cpu": "1"}}, "without corresponding RuntimeClass"),
        ({"runtimeClassName": "kata", "overhead": {"cpu": "1"}}, "doesn't match"),
        ({"runtimeClassName": "kata", "nodeSelector": {"kata": "false"}}, "conflict: runtimeClass"),
    ):
        with pytest.raises(Forbidden, match=why):
            await RuntimeClass(lookup).mutate(asked(pod(**deepcopy(spec))))


async def test_a_binding_carries_the_zone_of_the_node() -> None:
    lookup = MemoryLookup()
    labels = {"topology.kubernetes.io/zone": "a", "kubernetes.io/hostname": "n1"}
    lookup.put(NODES, {"metadata": {"name": "n1", "labels": labels}})
    binding: Object = {"metadata": {"name": "web"}, "target": {"kind": "Node", "name": "n1"}}
    await PodTopologyLabels(lookup).mutate(asked(binding, subresource="binding"))
    assert binding["metadata"]["labels"] == {"topology.kubernetes.io/zone": "a"}
    unknown: Object = {"metadata": {"name": "web"}, "target": {"name": "n2"}}
    await PodTopologyLabels(lookup).mutate(asked(unknown, subresource="binding"))
    assert "labels" not in unknown["metadata"]


class Allowing:
    """Lets through what is in the set."""

    def __init__(self, *allowed: tuple[str, str]) -> None:
        self._allowed = set(allowed)

    def authorize(self, attributes: Attributes) -> Decision:
        return Decision((attributes.verb, attributes.name) in self._allowed)


@pytest.mark.parametrize(
    ("allowed", "subresource", "certificate", "passes"),
    [
        pytest.param([("approve", "example.com/web")], "approval", "", True, id="may-approve"),
        pytest.param([("approve", "example.com/*")], "approval", "", True, id="may-approve-for-the-domain"),
        pytest.param([("sign", "example.com/web")], "approval", "", False, id="signing-is-not-approving"),
        pytest.param([("sign", "example.com/web")], "status", "pem", True, id="may-sign"),
        pytest.param([], "status", "pem", False, id="may-not-sign"),
        pytest.param([], "status", "", True, id="a-status-without-a-certificate"),
    ],
)
async def test_signers(allowed: list[tuple[str, str]], subresource: str, certificate: str, passes: bool) -> None:
    old: Object = {"metadata": {"name": "r"}, "spec": {"signerName": "example.com/web"}}
    new = {**old, "status": {"certificate": certificate} if certificate else {}}
    attributes = asked(
        new,
        "certificatesigningrequests",
        "UPDATE",
        group="certificates.k8s.io",
        subresource=subresource,
        old_object=old,
        name="r",
    )
    plugin = CertificateApproval(Allowing(*allowed))
    if passes:
        await plugin.validate(attributes)
    else:
        with pytest.raises(Forbidden, match=r'requests with signerName "example.com/web"'):
            await plugin.validate(attributes)


async def test_nobody_asks_for_masters() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    encoded = base64.b64encode(request.public_bytes(Encoding.PEM)).decode()
    spec = {"signerName": "kubernetes.io/kube-apiserver-client", "request": encoded}
    attributes = asked({"metadata": {"name": "r"}, "spec": spec}, "certificatesigningrequests")
    with pytest.raises(Forbidden, match="system:masters group is not allowed"):
        await CertificateSubjectRestriction().validate(attributes)


MIRROR = {"kubernetes.io/config.mirror": "x"}


def on_node(node: str = "n1", **metadata: Any) -> Object:
    return {"metadata": {"name": "web", "namespace": "d", "uid": "u", **metadata}, "spec": {"nodeName": node}}


def node(name: str = "n1", labels: dict[str, str] | None = None, **spec: Any) -> Object:
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def token(**reference: str) -> Object:
    return {"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", **reference}}}


TAINT = [{"key": "a", "effect": "NoSchedule"}]
REFUSED = [
    pytest.param(asked(on_node()), "can only create mirror pods", id="an-ordinary-pod"),
    pytest.param(asked(on_node("n2", annotations=MIRROR)), "spec.nodeName set to itself", id="a-mirror-elsewhere"),
    pytest.param(
        asked({**on_node(annotations=MIRROR), "spec": {"nodeName": "n1", "serviceAccountName": "x"}}),
        "can not create pods that reference a service account",
        id="a-mirror-with-an-account",
    ),
    pytest.param(
        asked(on_node("n2"), operation="UPDATE", subresource="status", old_object=on_node("n2")),
        "can only update pod status for pods with spec.nodeName set to itself",
        id="status-of-another-pod",
    ),
    pytest.param(asked(None, operation="DELETE", name="there"), "can only delete pods", id="delete-of-another-pod"),
    pytest.param(asked(node("n2"), "nodes"), 'node "n1" is not allowed to modify node "n2"', id="another-node"),
    pytest.param(
        asked(node(labels={"node-restriction.kubernetes.io/zone": "a"}), "nodes"),
        "not allowed to set the following labels: node-restriction.kubernetes.io/zone",
        id="a-restricted-label",
    ),
    pytest.param(
        asked(node(taints=TAINT), "nodes", "UPDATE", old_object=node()), "not allowed to modify taints", id="taints"
    ),
    pytest.param(
        asked(node(labels={"k8s.io/x": "a"}), "nodes", "UPDATE", old_object=node()),
        "is not allowed to modify labels: k8s.io/x",
        id="a-label-of-kubernetes",
    ),
    pytest.param(
        asked(token(name="web"), "serviceaccounts", subresource="token"),
        "pod binding without a uid",
        id="token-without-uid",
    ),
    pytest.param(
        asked(token(name="there", uid="u"), "serviceaccounts", subresource="token"),
        "bound to a pod scheduled on a different node",
        id="token-of-another-pod",
    ),
    pytest.param(
        asked({"metadata": {"name": "n2"}}, "leases", group="coordination.k8s.io", namespace="kube-node-lease"),
        "can only access node lease with the same name as the requesting node",
        id="another-lease",
    ),
]
ALLOWED = [
    pytest.param(asked(on_node(annotations=MIRROR)), id="a-mirror-pod"),
    pytest.param(asked(on_node(), operation="UPDATE", subresource="status", old_object=on_node()), id="own-status"),
    pytest.param(
        asked(node(labels={"kubernetes.io/hostname": "n1", "team": "a"}, taints=TAINT), "nodes"), id="own-node"
    ),
    pytest.param(asked(token(name="here", uid="u"), "serviceaccounts", subresource="token"), id="token-of-own-pod"),
]


def restricted(attributes: Attributes) -> tuple[NodeRestriction, Attributes]:
    lookup = MemoryLookup()
    lookup.put(PODS, {**on_node("n2"), "metadata": {"name": "there", "namespace": "d", "uid": "u"}})
    lookup.put(PODS, {**on_node("n1"), "metadata": {"name": "here", "namespace": "d", "uid": "u"}})
    attributes.user = NODE
    return NodeRestriction(lookup), attributes


@pytest.mark.parametrize(("attributes", "why"), REFUSED)
async def test_what_a_node_may_not_write(attributes: Attributes, why: str) -> None:
    plugin, attributes = restricted(attributes)
    with pytest.raises(Forbidden, match=why):
        await plugin.mutate(attributes)
    attributes.user = ANN
    await plugin.mutate(attributes)


@pytest.mark.parametrize("attributes", ALLOWED)
async def test_what_a_node_may_write(attributes: Attributes) -> None:
    plugin, attributes = restricted(attributes)
    await plugin.mutate(attributes)


@pytest.mark.parametrize(
    ("resource", "finalizer"),
    [("persistentvolumes", "kubernetes.io/pv-protection"), ("persistentvolumeclaims", "kubernetes.io/pvc-protection")],
)
async def test_storage_is_protected_from_the_first_moment(resource: str, finalizer: str) -> None:
    obj: Object = {"metadata": {"name": "a", "finalizers": ["example.com/mine"]}}
    for _ in range(2):
        await StorageObjectInUseProtection().mutate(asked(obj, resource))
    assert obj["metadata"]["finalizers"] == ["example.com/mine", finalizer]


def bound(generation: int, **spec: Any) -> Object:
    return {"metadata": {"name": "p", "generation": generation}, "spec": {"nodeName": "n1", **spec}}


INIT = {"name": "i", "resources": {"requests": {"cpu": "1"}}}
MORE = {"requests": {"cpu": "2"}}


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ({}, {"resources": MORE}, ["InPlacePodLevelResourcesVerticalScaling"]),
        ({"initContainers": [INIT]}, {"initContainers": [{**INIT, "resources": MORE}]}, []),
        ({"containers": [INIT]}, {"containers": [{**INIT, "resources": MORE}]}, []),
    ],
)
async def test_a_node_is_asked_whether_it_can(old: dict[str, Any], new: dict[str, Any], missing: list[str]) -> None:
    node = {"metadata": {"name": "n1"}, "status": {"declaredFeatures": ["InPlacePodVerticalScalingInitContainers"]}}
    lookup = MemoryLookup()
    lookup.put(NODES, node)
    plugin = NodeDeclaredFeatures(lookup)
    attributes = asked(bound(2, **new), operation="UPDATE", old_object=bound(1, **old), subresource="resize")
    if not missing:
        await plugin.validate(attributes)
        return
    why = f'pod update requires features {missing[0]} which are not available on node "n1"'
    with pytest.raises(Forbidden, match=why):
        await plugin.validate(attributes)
    nobody = NodeDeclaredFeatures(MemoryLookup())
    with pytest.raises(Forbidden, match='node "n1" not found'):
        await nobody.validate(attributes)
    await plugin.validate(asked(bound(1, **new), operation="UPDATE", old_object=bound(1, **old)))
