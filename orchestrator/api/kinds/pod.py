"""Pod and PodTemplate: defaults and preparation. Valid is what `pod_faults` and `pod_update_faults` let pass.

A new Pod is Pending with its QoS class; a Pod with scheduling gates says so in its PodScheduled condition.
Source: core/v1 API reference, Pod.
"""

from __future__ import annotations

from orchestrator.api import meta
from orchestrator.api.kinds import pod_faults, pod_resize, pod_update_faults, pod_warnings, podspec, table
from orchestrator.api.kinds.pod_table import COLUMNS, cells
from orchestrator.api.kinds.qos import qos_class
from orchestrator.api.kinds.rules import KindRules
from orchestrator.api.meta import Object
from orchestrator.api.resources import PODS, PODTEMPLATES


def on_create(pod: Object) -> None:
    spec = pod.get("spec") or {}
    pod["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
    if spec.get("schedulingGates"):
        pod["status"]["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastTransitionTime": pod["metadata"].get("creationTimestamp"),
            }
        ]


def on_status_update(new: Object, old: Object) -> None:
    """The QoS class and what was observed of a generation stay where a writer, who may not know them, leaves them out.
    What of a node's own resources is claimed is behind a gate that is off in v1.36."""
    status, before = new.setdefault("status", {}), old.get("status") or {}
    observed = {each.get("type"): each.get("observedGeneration") for each in before.get("conditions") or ()}
    _keep_known(status, before, "qosClass", "observedGeneration")
    for condition in status.get("conditions") or ():
        _keep_known(condition, {"observedGeneration": observed.get(condition.get("type"))}, "observedGeneration")
    if "nodeAllocatableResourceClaimStatuses" not in (old.get("status") or {}):
        (new.get("status") or {}).pop("nodeAllocatableResourceClaimStatuses", None)


def _keep_known(new: Object, old: Object, *names: str) -> None:
    for name in names:
        if not new.get(name) and old.get(name):
            new[name] = old[name]


def _template_cells(obj: Object, now: float) -> table.Cells:
    template = obj.get("template") or {}
    names, images = table.images(template.get("spec") or {})
    return [meta.name(obj), names, images, table.label_text(meta.labels(template))]


RULES = (
    KindRules(
        resource=PODS,
        status_keeps_owners=True,
        has_generation=True,
        default=podspec.default_pod,
        on_create=on_create,
        on_status_update=on_status_update,
        faults=pod_faults.create,
        update_faults=pod_update_faults.update,
        status_faults=pod_update_faults.status_update,
        subresource_faults={"ephemeralcontainers": pod_update_faults.ephemeral_update, "resize": pod_resize.faults_of},
        warnings=pod_warnings.of_pod,
        update_warnings=pod_warnings.of_changed_pod,
        columns=COLUMNS,
        cells=cells,
    ),
    KindRules(
        resource=PODTEMPLATES,
        has_generation=True,
        default=podspec.default_template,
        faults=lambda obj: pod_faults.template(obj.get("template"), "template"),
        update_faults=lambda new, old: pod_faults.template(new.get("template"), "template"),
        columns=(table.NAME, *table.texts("Containers", "Images", "Pod Labels")),
        cells=_template_cells,
    ),
)
