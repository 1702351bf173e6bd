"""What can be wrong with a workload of apps/v1 or a ReplicationController, and what an update of one may change.

The selector must select the template's labels and never changes; the template's pods restart always and have no
deadline. Source: apps/v1 API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api.kinds import faults, formats, pod_faults
from orchestrator.api.kinds.claim_faults import claim_spec
from orchestrator.api.kinds.values import (
    amount,
    at_most_100_percent,
    int_or_percent,
    is_readable,
    label_selector,
    nonnegative,
    selects,
)
from orchestrator.api.meta import Object
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

MISMATCH = "`selector` does not match template `labels`"


def _spec(obj: Json) -> dict[str, Any]:
    return obj.get("spec") or {}


def _selector(spec: Json, kind: str) -> list[Cause]:
    selector = spec.get("selector")
    if selector is None:
        return [faults.required("spec.selector")]
    causes = label_selector(selector, "spec.selector")
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        causes.append(faults.invalid("spec.selector", selector, f"empty selector is invalid for {kind}"))
    return causes


def _template(spec: Json, kind: str, *, template: Json | None = None) -> list[Cause]:
    found = template if template is not None else (spec.get("template") or {})
    labels = (found.get("metadata") or {}).get("labels")
    selector = spec.get("selector")
    if not is_readable(selector):
        return [faults.invalid("spec.selector", selector, "invalid label selector")]
    causes: list[Cause] = []
    if not selects(selector, labels):
        causes.append(faults.invalid("spec.template.metadata.labels", labels, MISMATCH))
    causes += pod_faults.template(found, "spec.template")
    return causes + _always_restarts(found, kind)


def _always_restarts(template: Json, kind: str) -> list[Cause]:
    pod, path = template.get("spec") or {}, "spec.template.spec"
    causes: list[Cause] = []
    if pod.get("restartPolicy") != "Always":
        causes.append(faults.not_supported(f"{path}.restartPolicy", pod.get("restartPolicy") or "", ("Always",)))
    if pod.get("activeDeadlineSeconds") is not None:
        detail = f"activeDeadlineSeconds in {kind} is not Supported"
        causes.append(faults.forbidden(f"{path}.activeDeadlineSeconds", detail))
    return causes


def deployment(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    causes = nonnegative(spec, "spec", "replicas")
    causes += _selector(spec, "deployment")
    causes += _template(spec, "ReplicaSet")
    causes += _deployment_strategy(spec.get("strategy") or {})
    causes += nonnegative(spec, "spec", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        detail = "must be greater than minReadySeconds"
        causes.append(faults.invalid("spec.progressDeadlineSeconds", deadline, detail))
    return causes


def _deployment_strategy(strategy: Json) -> list[Cause]:
    path, rolling = "spec.strategy", strategy.get("rollingUpdate")
    if strategy.get("type") == "Recreate":
        detail = "may not be specified when strategy `type` is 'Recreate'"
        return [faults.forbidden(f"{path}.rollingUpdate", detail)] if rolling is not None else []
    if strategy.get("type") != "RollingUpdate":
        return [faults.not_supported(path, strategy, ("Recreate", "RollingUpdate"))]
    rolling, at = rolling or {}, f"{path}.rollingUpdate"
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    causes = int_or_percent(unavailable, f"{at}.maxUnavailable") + int_or_percent(surge, f"{at}.maxSurge")
    if amount(unavailable) == 0 and amount(surge) == 0:
        causes.append(faults.invalid(f"{at}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
    return causes + at_most_100_percent(unavailable, f"{at}.maxUnavailable")


def replica_set(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    causes = nonnegative(spec, "spec", "replicas", "minReadySeconds")
    return causes + _selector(spec, "deployment") + _template(spec, "ReplicaSet")


def replication_controller(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    causes = nonnegative(spec, "spec", "minReadySeconds")
    selector = spec.get("selector") or {}
    if not selector:
        causes.append(faults.required("spec.selector"))
    causes += nonnegative(spec, "spec", "replicas")
    template = spec.get("template")
    if template is None:
        return [*causes, faults.required("spec.template")]
    labels = (template.get("metadata") or {}).get("labels")
    if not selector.items() <= (labels or {}).items():
        causes.append(faults.invalid("spec.template.metadata.labels", labels, MISMATCH))
    return causes + pod_faults.template(template, "spec.template") + _always_restarts(template, "ReplicationController")


def daemon_set(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    selector = spec.get("selector")
    causes = label_selector(selector, "spec.selector")
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    if is_readable(selector) and not selects(selector, labels):
        causes.append(faults.invalid("spec.template.metadata.labels", labels, MISMATCH))
    if selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions"):
        causes.append(faults.invalid("spec.selector", selector, "empty selector is invalid for daemonset"))
    causes += pod_faults.template(template, "spec.template") + _always_restarts(template, "DaemonSet")
    causes += nonnegative(spec, "spec", "minReadySeconds")
    causes += _daemon_strategy(spec.get("updateStrategy") or {})
    return causes + nonnegative(spec, "spec", "revisionHistoryLimit")


def _daemon_strategy(strategy: Json) -> list[Cause]:
    path = "spec.updateStrategy"
    if strategy.get("type") == "OnDelete":
        return []
    if strategy.get("type") != "RollingUpdate":
        return [faults.not_supported(path, strategy, ("RollingUpdate", "OnDelete"))]
    rolling, at = strategy.get("rollingUpdate") or {}, f"{path}.rollingUpdate"
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    causes = int_or_percent(unavailable, f"{at}.maxUnavailable") + int_or_percent(surge, f"{at}.maxSurge")
    causes += at_most_100_percent(unavailable, f"{at}.maxUnavailable") + at_most_100_percent(surge, f"{at}.maxSurge")
    if amount(unavailable) and amount(surge):
        causes.append(faults.invalid(f"{at}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
    elif not amount(unavailable) and not amount(surge):
        causes.append(faults.required(f"{at}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return causes


def stateful_set(obj: Object) -> list[Cause]:
    spec = _spec(obj)
    policy = spec.get("podManagementPolicy")
    causes: list[Cause] = []
    if policy not in ("OrderedReady", "Parallel"):
        causes.append(faults.invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    causes += _stateful_strategy(spec.get("updateStrategy") or {})
    for name, value in (spec.get("persistentVolumeClaimRetentionPolicy") or {}).items():
        if value not in ("Retain", "Delete"):
            path = f"spec.persistentVolumeClaimRetentionPolicy.{name}"
            causes.append(faults.not_supported(path, value, ("Retain", "Delete")))
    for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        causes += claim_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{index}].spec")
    causes += nonnegative(spec, "spec", "replicas", "minReadySeconds")
    if (spec.get("ordinals") or {}).get("start", 0) < 0:
        causes += nonnegative(spec["ordinals"], "spec.ordinals", "start")
    if name := spec.get("serviceName"):
        causes += faults.each("spec.serviceName", name, formats.dns_label(name))
    causes += _selector(spec, "statefulset")
    return causes + _template(spec, "StatefulSet", template=_with_claims(spec))


def _with_claims(spec: Json) -> Json:
    """The template as its pods will be: claims become volumes, names come from the set."""
    template = spec.get("template") or {}
    names = [(claim.get("metadata") or {}).get("name") or "" for claim in spec.get("volumeClaimTemplates") or ()]
    pod = {key: value for key, value in (template.get("spec") or {}).items() if key not in ("hostname", "subdomain")}
    own = [volume for volume in pod.get("volumes") or () if volume.get("name") not in names]
    claims = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names]
    return {**template, "spec": {**pod, "volumes": claims + own}}


def _stateful_strategy(strategy: Json) -> list[Cause]:
    path, rolling = "spec.updateStrategy", strategy.get("rollingUpdate")
    match strategy.get("type"):
        case "OnDelete":
            detail = "only allowed for updateStrategy 'RollingUpdate'"
            return [faults.invalid(f"{path}.rollingUpdate", rolling, detail)] if rolling is not None else []
        case "RollingUpdate":
            at = f"{path}.rollingUpdate"
            return nonnegative(rolling or {}, at, "partition")
    return [faults.invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'")]


def deployment_update(new: Object, old: Object) -> list[Cause]:
    return deployment(new) + _same_selector(new, old)


def replica_set_update(new: Object, old: Object) -> list[Cause]:
    return replica_set(new) + _same_selector(new, old)


def daemon_set_update(new: Object, old: Object) -> list[Cause]:
    return _same_selector(new, old) + daemon_set(new)


def replication_controller_update(new: Object, old: Object) -> list[Cause]:
    return replication_controller(new)


def _same_selector(new: Object, old: Object) -> list[Cause]:
    return faults.immutable("spec.selector", _spec(new).get("selector"), _spec(old).get("selector"))


STATEFUL_UPDATABLE = (
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
)  # fmt: skip


def stateful_set_update(new: Object, old: Object) -> list[Cause]:
    spec, before = _spec(new), _spec(old)
    causes = stateful_set(new)
    fixed = {key for key in {*spec, *before} if key not in STATEFUL_UPDATABLE}
    if any(spec.get(key) != before.get(key) for key in fixed):
        names = ", ".join(f"'{name}'" for name in STATEFUL_UPDATABLE[:-1])
        detail = (
            f"updates to statefulset spec for fields other than {names} and '{STATEFUL_UPDATABLE[-1]}' are forbidden"
        )
        causes.append(faults.forbidden("spec", detail))
    return causes


COUNTS = (
    "replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas", "currentReplicas",
    "fullyLabeledReplicas", "observedGeneration", "terminatingReplicas", "collisionCount", "currentNumberScheduled",
    "numberMisscheduled", "desiredNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable",
    "numberUnavailable",
)  # fmt: skip


def status_update(new: Object, old: Object) -> list[Cause]:
    """Counts are not negative, and parts are not more than the whole."""
    status = new.get("status") or {}
    causes = nonnegative(status, "status", *COUNTS)
    if new.get("kind") != "DaemonSet":
        total = status.get("replicas", 0)
        parts = ["updatedReplicas", "currentReplicas", "readyReplicas", "availableReplicas"]
        for name in parts if new.get("kind") == "StatefulSet" else [*parts, "fullyLabeledReplicas"]:
            if (count := status.get(name, 0)) > total:
                causes.append(faults.invalid(f"status.{name}", count, "cannot be greater than status.replicas"))
        if status.get("availableReplicas", 0) > status.get("readyReplicas", 0):
            rule = "status.readyReplicas" if new.get("kind") == "StatefulSet" else "readyReplicas"
            detail = f"cannot be greater than {rule}"
            causes.append(faults.invalid("status.availableReplicas", status.get("availableReplicas", 0), detail))
    return causes


def controller_revision(obj: Object) -> list[Cause]:
    causes = nonnegative(obj, "", "revision")
    if obj.get("data") is None:
        causes.append(faults.required("data", "data is mandatory"))
    elif not isinstance(obj["data"], dict):
        causes.append(faults.required("data", "data must be a valid JSON object"))
    return causes


def controller_revision_update(new: Object, old: Object) -> list[Cause]:
    return nonnegative(new, "", "revision") + faults.immutable("data", new.get("data"), old.get("data"))
