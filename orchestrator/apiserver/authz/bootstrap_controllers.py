"""What each controller may do, by the name of its service account in kube-system.

Each becomes the ClusterRole `system:controller:<name>` with a binding to that account; the union is the role of the
controller manager, which runs them under one identity. Source: kube-apiserver's controller roles.
"""

from __future__ import annotations

from typing import Any

from orchestrator.apiserver.authz.rule_notation import EVENTS, READ, rule

Rules = list[dict[str, Any]]

POD_OWNER = rule("create delete list patch watch", "", "pods")
ALL_VERBS = "create delete get list patch update watch"

CONTROLLERS: dict[str, Rules] = {
    "attachdetach-controller": [
        rule("list watch", "", "persistentvolumeclaims persistentvolumes pods"),
        rule(READ, "", "nodes"),
        rule("patch update", "", "nodes/status"),
        rule("create delete get list watch", "storage.k8s.io", "volumeattachments"),
        rule(READ, "storage.k8s.io", "csidrivers csinodes"),
        EVENTS,
    ],
    "certificate-controller": [
        rule("delete get list watch", "certificates.k8s.io", "certificatesigningrequests"),
        rule("update", "certificates.k8s.io", "certificatesigningrequests/approval certificatesigningrequests/status"),
        rule("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
        rule(
            "sign",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet "
            "kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
        ),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        EVENTS,
    ],
    "clusterrole-aggregation-controller": [
        rule(f"escalate {READ} patch update", "rbac.authorization.k8s.io", "clusterroles"),
    ],
    "cronjob-controller": [
        rule(f"{READ} update", "batch", "cronjobs"),
        rule(ALL_VERBS, "batch", "jobs"),
        rule("update", "batch", "cronjobs/finalizers cronjobs/status"),
        rule("delete list watch", "", "pods"),
        EVENTS,
    ],
    "daemon-set-controller": [
        rule(READ, "apps", "daemonsets"),
        rule("update", "apps", "daemonsets/finalizers daemonsets/status"),
        rule("list watch", "", "nodes"),
        POD_OWNER,
        rule("create", "", "pods/binding"),
        rule(ALL_VERBS, "apps", "controllerrevisions"),
        EVENTS,
    ],
    "deployment-controller": [
        rule(f"{READ} update", "apps", "deployments"),
        rule("update", "apps", "deployments/finalizers deployments/status"),
        rule(ALL_VERBS, "apps", "replicasets"),
        rule(f"{READ} update", "", "pods"),
        EVENTS,
    ],
    "device-taint-eviction-controller": [
        rule(f"delete {READ}", "", "pods"),
        rule("patch update", "", "pods/status"),
        rule(READ, "resource.k8s.io", "deviceclasses resourceclaims resourceslices"),
        EVENTS,
    ],
    "disruption-controller": [
        rule(READ, "apps", "deployments replicasets statefulsets"),
        rule(READ, "", "replicationcontrollers"),
        rule(READ, "policy", "poddisruptionbudgets"),
        rule("update", "policy", "poddisruptionbudgets/status"),
        rule("patch update", "", "pods/status"),
        rule("get", "*", "*/scale"),
        EVENTS,
    ],
    "endpoint-controller": [
        rule(READ, "", "pods services"),
        rule("create delete get list update watch", "", "endpoints"),
        rule("create", "", "endpoints/restricted"),
        EVENTS,
    ],
    "endpointslice-controller": [
        rule(READ, "", "nodes pods services"),
        rule("update", "", "services/finalizers"),
        rule("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
        rule("create", "discovery.k8s.io", "endpointslices/restricted"),
        EVENTS,
    ],
    "endpointslicemirroring-controller": [
        rule(READ, "", "endpoints services"),
        rule("update", "", "endpoints/finalizers services/finalizers"),
        rule("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
        EVENTS,
    ],
    "ephemeral-volume-controller": [
        rule(READ, "", "pods"),
        rule("update", "", "pods/finalizers"),
        rule("create get list watch", "", "persistentvolumeclaims"),
        EVENTS,
    ],
    "expand-controller": [
        rule(f"{READ} patch update", "", "persistentvolumes"),
        rule("patch update", "", "persistentvolumeclaims/status"),
        rule(READ, "", "persistentvolumeclaims"),
        EVENTS,
    ],
    "generic-garbage-collector": [rule("delete get list patch update watch", "*", "*"), EVENTS],
    "horizontal-pod-autoscaler": [
        rule(READ, "autoscaling", "horizontalpodautoscalers"),
        rule("update", "autoscaling", "horizontalpodautoscalers/status"),
        rule("get update", "*", "*/scale"),
        rule("list watch", "", "pods"),
        rule("list watch", "metrics.k8s.io", "pods"),
        rule(READ, "custom.metrics.k8s.io external.metrics.k8s.io", "*"),
        EVENTS,
    ],
    "job-controller": [
        rule(f"{READ} patch update", "batch", "jobs"),
        rule("update", "batch", "jobs/finalizers jobs/status"),
        POD_OWNER,
        EVENTS,
    ],
    "legacy-service-account-token-cleaner": [
        rule("get", "", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
        rule("delete patch", "", "secrets"),
    ],
    "namespace-controller": [
        rule(f"delete {READ}", "", "namespaces"),
        rule("update", "", "namespaces/finalize namespaces/status"),
        rule(f"delete deletecollection {READ}", "*", "*"),
    ],
    "node-controller": [
        rule(f"delete {READ} patch update", "", "nodes"),
        rule("patch update", "", "nodes/status"),
        rule("patch update", "", "pods/status"),
        rule("delete get list watch", "", "pods"),
        EVENTS,
    ],
    "persistent-volume-binder": [
        rule("create delete get list update watch", "", "persistentvolumes"),
        rule("update", "", "persistentvolumeclaims/status persistentvolumes/status"),
        rule(f"{READ} update", "", "persistentvolumeclaims"),
        rule("create delete get list watch", "", "pods"),
        rule(READ, "storage.k8s.io", "storageclasses"),
        rule("list watch", "", "nodes"),
        rule("watch", "", "events"),
        EVENTS,
    ],
    "pod-garbage-collector": [
        rule("delete list watch", "", "pods"),
        rule(READ, "", "nodes"),
        rule("patch", "", "pods/status"),
    ],
    "pv-protection-controller": [rule(f"{READ} update", "", "persistentvolumes"), EVENTS],
    "pvc-protection-controller": [
        rule(f"{READ} update", "", "persistentvolumeclaims"),
        rule("update", "", "persistentvolumeclaims/status"),
        rule(READ, "", "pods"),
        EVENTS,
    ],
    "replicaset-controller": [
        rule(f"{READ} update", "apps", "replicasets"),
        rule("update", "apps", "replicasets/finalizers replicasets/status"),
        POD_OWNER,
        EVENTS,
    ],
    "replication-controller": [
        rule(f"{READ} update", "", "replicationcontrollers"),
        rule("update", "", "replicationcontrollers/finalizers replicationcontrollers/status"),
        POD_OWNER,
        EVENTS,
    ],
    "resource-claim-controller": [
        rule(READ, "", "pods"),
        rule("update", "", "pods/finalizers"),
        rule("patch update", "", "pods/status"),
        rule(f"create delete {READ} patch update", "resource.k8s.io", "resourceclaims"),
        rule("patch update", "resource.k8s.io", "resourceclaims/binding resourceclaims/status"),
        EVENTS,
    ],
    "resourcequota-controller": [rule("list watch", "*", "*"), rule("update", "", "resourcequotas/status"), EVENTS],
    "root-ca-cert-publisher": [rule("create update", "", "configmaps"), EVENTS],
    "route-controller": [rule("list watch", "", "nodes"), rule("patch", "", "nodes/status"), EVENTS],
    "selinux-warning-controller": [
        rule(READ, "", "persistentvolumeclaims persistentvolumes pods"),
        rule(READ, "storage.k8s.io", "csidrivers"),
        EVENTS,
    ],
    "service-account-controller": [rule("create", "", "serviceaccounts"), EVENTS],
    "service-cidrs-controller": [
        rule(f"{READ} patch update", "networking.k8s.io", "servicecidrs"),
        rule("patch update", "networking.k8s.io", "servicecidrs/finalizers servicecidrs/status"),
        rule(READ, "networking.k8s.io", "ipaddresses"),
        EVENTS,
    ],
    "service-controller": [
        rule(READ, "", "services"),
        rule("patch update", "", "services/status"),
        rule("list watch", "", "nodes"),
        EVENTS,
    ],
    "statefulset-controller": [
        rule("create delete get list patch update watch", "", "pods"),
        rule(READ, "apps", "statefulsets"),
        rule("update", "apps", "statefulsets/finalizers statefulsets/status"),
        rule(ALL_VERBS, "apps", "controllerrevisions"),
        rule("create delete get list update watch", "", "persistentvolumeclaims"),
        rule("update", "", "pods/finalizers"),
        EVENTS,
    ],
    "ttl-after-finished-controller": [rule("delete get list watch", "batch", "jobs"), EVENTS],
    "ttl-controller": [rule("list patch update watch", "", "nodes"), EVENTS],
    "validatingadmissionpolicy-status-controller": [
        rule(READ, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
        rule("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"),
        EVENTS,
    ],
    "volumeattributesclass-protection-controller": [
        rule(READ, "", "persistentvolumeclaims persistentvolumes"),
        rule(f"{READ} update", "storage.k8s.io", "volumeattributesclasses"),
        EVENTS,
    ],
}
