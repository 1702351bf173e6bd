"""The table of resources: what the API server serves, and how clients name it. A kind is a row here plus its rules.

A row says group, version, plural, kind and scope, the verbs, the subresources and what kubectl shows of it. Custom
resources are rows too, added to a `ResourceTable` at run time. Everything that used to be a route list elsewhere
(paths, discovery, RBAC names, OpenAPI) is computed from these rows. Source: Kubernetes API reference v1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from orchestrator.api.custom import CustomKind

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
READ_WRITE = ("get", "patch", "update")  # of /status and /scale


# Where kube-apiserver keeps the kinds that it does not keep under their plurals; the groups of the servers within it.
STORED_UNDER = {
    "replicationcontrollers": "controllers",
    "endpoints": "services/endpoints",
    "nodes": "minions",
    "services": "services/specs",
    "ingresses": "ingress",
}
OWN_STORES = ("apiextensions.k8s.io", "apiregistration.k8s.io")


class Subresource(Struct, frozen=True):
    """`kind` and `group_version` are what discovery reports: the body's kind, where it is not the parent's."""

    name: str
    verbs: tuple[str, ...] = READ_WRITE
    kind: str = ""
    group_version: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """One served resource in one version. `storage_version` names the version that objects are kept in, where the same
    objects are served in several (events, horizontalpodautoscalers); "" means this one."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = ()
    singular_name: str = ""
    storage_group_version: str = ""
    list_kind_name: str = ""
    deprecated: str = ""  # the warning that comes with every answer
    custom: CustomKind | None = field(default=None, compare=False, repr=False)  # what its definition says

    @property
    def singular(self) -> str:
        return self.singular_name or self.kind.lower()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """`deployments.apps`, `pods`: the name in messages and in the store."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def list_kind(self) -> str:
        return self.list_kind_name or f"{self.kind}List"

    @property
    def deprecation(self) -> str:
        return self.custom.deprecation if self.custom is not None else self.deprecated

    @property
    def is_custom(self) -> bool:
        return self.custom is not None

    @property
    def root(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The request path; with no namespace a namespaced resource's path spans all of them."""
        parts = [self.root]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts.extend(part for part in (name, subresource) if part)
        return "/".join(parts)

    def storage_key(self, namespace: str, name: str) -> str:
        """The object's key in kube-apiserver's etcd, which its messages show."""
        kind = self.plural if self.group not in OWN_STORES and not self.is_custom else f"{self.group}/{self.plural}"
        place = f"{namespace}/{name}" if self.namespaced else name
        return f"/registry/{STORED_UNDER.get(self.plural, kind)}/{place}"

    def subresource(self, name: str) -> Subresource | None:
        return next((sub for sub in self.subresources if sub.name == name), None)


STATUS = Subresource("status")
SCALE = Subresource("scale", kind="Scale", group_version="autoscaling/v1")
CREATE_ONLY = ("create",)
CONNECT = ("create", "get")
PROXY_VERBS = ("create", "delete", "get", "patch", "update")


def _row(
    api: str,
    plural: str,
    kind: str,
    short: str = "",
    *subs: Subresource,
    cluster: bool = False,
    categories: tuple[str, ...] = (),
    verbs: tuple[str, ...] = ALL_VERBS,
    stored_as: str = "",
    deprecated: str = "",
) -> Resource:
    group, _, version = api.rpartition("/")
    return Resource(
        group, version, plural, kind, not cluster, tuple(short.split()), categories, verbs, subs, "", stored_as,
        deprecated=deprecated,
    )  # fmt: skip


ALL = ("all",)

NAMESPACES = _row(
    "v1", "namespaces", "Namespace", "ns", STATUS, Subresource("finalize", ("update",)), cluster=True,
    verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
)  # fmt: skip
NODES = _row("v1", "nodes", "Node", "no", STATUS, Subresource("proxy", PROXY_VERBS, "NodeProxyOptions"), cluster=True)
PODS = _row(
    "v1", "pods", "Pod", "po", STATUS,
    Subresource("attach", CONNECT, "PodAttachOptions"),
    Subresource("binding", CREATE_ONLY, "Binding"),
    Subresource("ephemeralcontainers"),
    Subresource("eviction", CREATE_ONLY, "Eviction", "policy/v1"),
    Subresource("exec", CONNECT, "PodExecOptions"),
    Subresource("log", ("get",)),
    Subresource("portforward", CONNECT, "PodPortForwardOptions"),
    Subresource("proxy", PROXY_VERBS, "PodProxyOptions"),
    Subresource("resize"),
    categories=ALL,
)  # fmt: skip
SERVICES = _row(
    "v1", "services", "Service", "svc", STATUS, Subresource("proxy", PROXY_VERBS, "ServiceProxyOptions"), categories=ALL
)
ENDPOINTS = _row(
    "v1", "endpoints", "Endpoints", "ep",
    deprecated="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
)  # fmt: skip
CONFIGMAPS = _row("v1", "configmaps", "ConfigMap", "cm")
SECRETS = _row("v1", "secrets", "Secret")
SERVICEACCOUNTS = _row(
    "v1", "serviceaccounts", "ServiceAccount", "sa",
    Subresource("token", CREATE_ONLY, "TokenRequest", "authentication.k8s.io/v1"),
)  # fmt: skip
PERSISTENTVOLUMES = _row("v1", "persistentvolumes", "PersistentVolume", "pv", STATUS, cluster=True)
PERSISTENTVOLUMECLAIMS = _row("v1", "persistentvolumeclaims", "PersistentVolumeClaim", "pvc", STATUS)
REPLICATIONCONTROLLERS = _row(
    "v1", "replicationcontrollers", "ReplicationController", "rc", STATUS, SCALE, categories=ALL
)
EVENTS = _row("v1", "events", "Event", "ev")
LIMITRANGES = _row("v1", "limitranges", "LimitRange", "limits")
RESOURCEQUOTAS = _row("v1", "resourcequotas", "ResourceQuota", "quota", STATUS)
PODTEMPLATES = _row("v1", "podtemplates", "PodTemplate")
BINDINGS = _row("v1", "bindings", "Binding", verbs=CREATE_ONLY)
COMPONENTSTATUSES = _row(
    "v1", "componentstatuses", "ComponentStatus", "cs", cluster=True, verbs=("get", "list"),
    deprecated="v1 ComponentStatus is deprecated in v1.19+",
)  # fmt: skip

DEPLOYMENTS = _row("apps/v1", "deployments", "Deployment", "deploy", STATUS, SCALE, categories=ALL)
REPLICASETS = _row("apps/v1", "replicasets", "ReplicaSet", "rs", STATUS, SCALE, categories=ALL)
STATEFULSETS = _row("apps/v1", "statefulsets", "StatefulSet", "sts", STATUS, SCALE, categories=ALL)
DAEMONSETS = _row("apps/v1", "daemonsets", "DaemonSet", "ds", STATUS, categories=ALL)
CONTROLLERREVISIONS = _row("apps/v1", "controllerrevisions", "ControllerRevision")

JOBS = _row("batch/v1", "jobs", "Job", "", STATUS, categories=ALL)
CRONJOBS = _row("batch/v1", "cronjobs", "CronJob", "cj", STATUS, categories=ALL)
HORIZONTALPODAUTOSCALERS = _row(
    "autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "hpa", STATUS, categories=ALL
)
HORIZONTALPODAUTOSCALERS_V1 = _row(
    "autoscaling/v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "hpa", STATUS, categories=ALL,
    stored_as="autoscaling/v2",
)  # fmt: skip
PODDISRUPTIONBUDGETS = _row("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", "pdb", STATUS)

INGRESSES = _row("networking.k8s.io/v1", "ingresses", "Ingress", "ing", STATUS)
INGRESSCLASSES = _row("networking.k8s.io/v1", "ingressclasses", "IngressClass", cluster=True)
NETWORKPOLICIES = _row("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", "netpol")
IPADDRESSES = _row("networking.k8s.io/v1", "ipaddresses", "IPAddress", "ip", cluster=True)
SERVICECIDRS = _row("networking.k8s.io/v1", "servicecidrs", "ServiceCIDR", "", STATUS, cluster=True)
ENDPOINTSLICES = _row("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")

STORAGECLASSES = _row("storage.k8s.io/v1", "storageclasses", "StorageClass", "sc", cluster=True)
VOLUMEATTACHMENTS = _row("storage.k8s.io/v1", "volumeattachments", "VolumeAttachment", "", STATUS, cluster=True)
CSIDRIVERS = _row("storage.k8s.io/v1", "csidrivers", "CSIDriver", cluster=True)
CSINODES = _row("storage.k8s.io/v1", "csinodes", "CSINode", cluster=True)
CSISTORAGECAPACITIES = _row("storage.k8s.io/v1", "csistoragecapacities", "CSIStorageCapacity")
VOLUMEATTRIBUTESCLASSES = _row(
    "storage.k8s.io/v1", "volumeattributesclasses", "VolumeAttributesClass", "vac", cluster=True
)

ROLES = _row("rbac.authorization.k8s.io/v1", "roles", "Role")
ROLEBINDINGS = _row("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding")
CLUSTERROLES = _row("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", cluster=True)
CLUSTERROLEBINDINGS = _row("rbac.authorization.k8s.io/v1", "clusterrolebindings", "ClusterRoleBinding", cluster=True)

TOKENREVIEWS = _row("authentication.k8s.io/v1", "tokenreviews", "TokenReview", cluster=True, verbs=CREATE_ONLY)
SELFSUBJECTREVIEWS = _row(
    "authentication.k8s.io/v1", "selfsubjectreviews", "SelfSubjectReview", cluster=True, verbs=CREATE_ONLY
)
SUBJECTACCESSREVIEWS = _row(
    "authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview", cluster=True, verbs=CREATE_ONLY
)
SELFSUBJECTACCESSREVIEWS = _row(
    "authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", cluster=True, verbs=CREATE_ONLY
)
LOCALSUBJECTACCESSREVIEWS = _row(
    "authorization.k8s.io/v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", verbs=CREATE_ONLY
)
SELFSUBJECTRULESREVIEWS = _row(
    "authorization.k8s.io/v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", cluster=True, verbs=CREATE_ONLY
)
CERTIFICATESIGNINGREQUESTS = _row(
    "certificates.k8s.io/v1", "certificatesigningrequests", "CertificateSigningRequest", "csr", STATUS,
    Subresource("approval"), cluster=True,
)  # fmt: skip

VALIDATINGWEBHOOKCONFIGURATIONS = _row(
    "admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration",
    cluster=True, categories=("api-extensions",),
)  # fmt: skip
MUTATINGWEBHOOKCONFIGURATIONS = _row(
    "admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration",
    cluster=True, categories=("api-extensions",),
)  # fmt: skip
VALIDATINGADMISSIONPOLICIES = _row(
    "admissionregistration.k8s.io/v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", "", STATUS,
    cluster=True, categories=("api-extensions",),
)  # fmt: skip
VALIDATINGADMISSIONPOLICYBINDINGS = _row(
    "admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding",
    cluster=True, categories=("api-extensions",),
)  # fmt: skip
MUTATINGADMISSIONPOLICIES = _row(
    "admissionregistration.k8s.io/v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy",
    cluster=True, categories=("api-extensions",),
)  # fmt: skip
MUTATINGADMISSIONPOLICYBINDINGS = _row(
    "admissionregistration.k8s.io/v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding",
    cluster=True, categories=("api-extensions",),
)  # fmt: skip
FLOWSCHEMAS = _row("flowcontrol.apiserver.k8s.io/v1", "flowschemas", "FlowSchema", "", STATUS, cluster=True)
PRIORITYLEVELCONFIGURATIONS = _row(
    "flowcontrol.apiserver.k8s.io/v1", "prioritylevelconfigurations", "PriorityLevelConfiguration", "", STATUS,
    cluster=True,
)  # fmt: skip
DEVICECLASSES = _row("resource.k8s.io/v1", "deviceclasses", "DeviceClass", cluster=True)
RESOURCECLAIMS = _row("resource.k8s.io/v1", "resourceclaims", "ResourceClaim", "", STATUS)
RESOURCECLAIMTEMPLATES = _row("resource.k8s.io/v1", "resourceclaimtemplates", "ResourceClaimTemplate")
RESOURCESLICES = _row("resource.k8s.io/v1", "resourceslices", "ResourceSlice", cluster=True)
CUSTOMRESOURCEDEFINITIONS = _row(
    "apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", "crd crds", STATUS,
    cluster=True, categories=("api-extensions",),
)  # fmt: skip
APISERVICES = _row(
    "apiregistration.k8s.io/v1", "apiservices", "APIService", "", STATUS, cluster=True, categories=("api-extensions",)
)
LEASES = _row("coordination.k8s.io/v1", "leases", "Lease")
PRIORITYCLASSES = _row("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", "pc", cluster=True)
RUNTIMECLASSES = _row("node.k8s.io/v1", "runtimeclasses", "RuntimeClass", cluster=True)
EVENTS_V1 = _row("events.k8s.io/v1", "events", "Event", "ev", stored_as="v1")

ROWS: tuple[Resource, ...] = (
    NAMESPACES, NODES, PODS, SERVICES, ENDPOINTS, CONFIGMAPS, SECRETS, SERVICEACCOUNTS, PERSISTENTVOLUMES,
    PERSISTENTVOLUMECLAIMS, REPLICATIONCONTROLLERS, EVENTS, LIMITRANGES, RESOURCEQUOTAS, PODTEMPLATES, BINDINGS,
    COMPONENTSTATUSES, DEPLOYMENTS, REPLICASETS, STATEFULSETS, DAEMONSETS, CONTROLLERREVISIONS, JOBS, CRONJOBS,
    HORIZONTALPODAUTOSCALERS, HORIZONTALPODAUTOSCALERS_V1, PODDISRUPTIONBUDGETS, INGRESSES, INGRESSCLASSES,
    NETWORKPOLICIES, IPADDRESSES, SERVICECIDRS, ENDPOINTSLICES, STORAGECLASSES, VOLUMEATTACHMENTS, CSIDRIVERS,
    CSINODES, CSISTORAGECAPACITIES, VOLUMEATTRIBUTESCLASSES, ROLES, ROLEBINDINGS, CLUSTERROLES, CLUSTERROLEBINDINGS,
    TOKENREVIEWS, SELFSUBJECTREVIEWS, SUBJECTACCESSREVIEWS, SELFSUBJECTACCESSREVIEWS, LOCALSUBJECTACCESSREVIEWS,
    SELFSUBJECTRULESREVIEWS, CERTIFICATESIGNINGREQUESTS, LEASES, PRIORITYCLASSES, RUNTIMECLASSES, EVENTS_V1,
    CUSTOMRESOURCEDEFINITIONS, VALIDATINGWEBHOOKCONFIGURATIONS, MUTATINGWEBHOOKCONFIGURATIONS,
    VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS, MUTATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS, FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS, DEVICECLASSES, RESOURCECLAIMS,
    RESOURCECLAIMTEMPLATES, RESOURCESLICES, APISERVICES,
)  # fmt: skip


class ResourceTable:
    """The rows that one API server serves, found by path and by kind. Rows may be added and removed at run time."""

    def __init__(self, rows: Iterable[Resource] = ROWS) -> None:
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self._by_kind: dict[tuple[str, str, str], Resource] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Resource) -> None:
        self._by_path[row.group, row.version, row.plural] = row
        self._by_kind[row.group, row.version, row.kind] = row

    def remove(self, row: Resource) -> None:
        self._by_path.pop((row.group, row.version, row.plural), None)
        self._by_kind.pop((row.group, row.version, row.kind), None)

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_path.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        group, _, version = api_version.rpartition("/")
        return self._by_kind.get((group, version, kind))

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_path.values())

    def group_versions(self) -> dict[str, list[str]]:
        """group → versions, the preferred one first: the order of the rows."""
        found: dict[str, list[str]] = {}
        for row in self:
            versions = found.setdefault(row.group, [])
            if row.version not in versions:
                versions.append(row.version)
        return found
