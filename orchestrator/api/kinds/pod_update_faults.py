"""What an update may change of a pod that exists: of its spec, its status and its ephemeral containers.

The order of the checks is kube-apiserver's, which is the order of the causes. Source: core/v1 API reference, PodSpec.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api.kinds import faults, formats, pod_faults
from orchestrator.api.meta import Object, copied
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

UPDATABLE = (
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
)


def update(new: Object, old: Object) -> list[Cause]:
    """What may change of a pod that exists is little; the rest is told with a diff."""
    spec_, before = new.get("spec") or {}, old.get("spec") or {}
    causes = pod_faults.spec(spec_, "spec", pod_name=(new.get("metadata") or {}).get("name") or "")
    causes += pod_faults.tokens_of_nobody(spec_)
    for kind in ("containers", "initContainers"):
        containers = spec_.get(kind) or []
        if len(containers) != len(before.get(kind) or []):
            return [*causes, faults.forbidden(f"spec.{kind}", "pod updates may not add or remove containers")]
        causes += pod_faults.image_blanks(containers, f"spec.{kind}")
    causes += _deadline(spec_.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    causes += _only_added_tolerations(spec_.get("tolerations") or [], before.get("tolerations") or [])
    causes += _only_deleted_gates(spec_.get("schedulingGates") or [], before.get("schedulingGates") or [])
    if before.get("schedulingGates"):
        causes += _narrower(spec_, before)
    munged = _with_updatable(spec_, before)
    if munged != before:
        detail = f"pod updates may not change fields other than {','.join(UPDATABLE)}\n{difference(before, munged)}"
        causes.append(faults.forbidden("spec", detail))
    return causes


def _deadline(new: int | None, old: int | None) -> list[Cause]:
    path = "spec.activeDeadlineSeconds"
    if new is None:
        detail = "must not update from a positive integer to nil value"
        return [faults.invalid(path, None, detail)] if old is not None else []
    if not 0 <= new <= pod_faults.INT32_MAX:
        return [faults.invalid(path, new, formats.between(0, pod_faults.INT32_MAX))]
    if old is not None and old < new:
        return [faults.invalid(path, new, "must be less than or equal to previous value")]
    return []


def _only_added_tolerations(new: list[Json], old: list[Json]) -> list[Cause]:
    def identity(toleration: Json) -> dict[str, Any]:
        return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}

    kept = [identity(toleration) for toleration in new]
    if all(identity(toleration) in kept for toleration in old):
        return []
    detail = "existing toleration can not be modified except its tolerationSeconds"
    return [faults.forbidden("spec.tolerations", detail)]


def _only_deleted_gates(new: list[Json], old: list[Json]) -> list[Cause]:
    names = {gate.get("name") for gate in old}
    return [
        faults.forbidden(
            f"spec.schedulingGates[{index}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'",
        )
        for index, gate in enumerate(new)
        if gate.get("name") not in names
    ]


def _narrower(new: Json, old: Json) -> list[Cause]:
    """While a pod waits at a gate it may be said more closely where it is to run, and nothing may be taken back."""
    causes: list[Cause] = []
    selector, before = new.get("nodeSelector") or {}, old.get("nodeSelector") or {}
    if not before.items() <= selector.items():
        detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        causes.append(faults.invalid("spec.nodeSelector", new.get("nodeSelector"), detail))
    terms, had = _required_terms(new), _required_terms(old) or []
    path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
    if had and len(had) != len(terms or ()):
        detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [*causes, faults.invalid(path, terms, detail)]
    for index, (term, was) in enumerate(zip(terms or (), had, strict=False)):
        if not _has_only_additions(term, was):
            detail = "only additions are allowed (no mutations or deletions)"
            causes.append(faults.invalid(f"{path}[{index}]", term, detail))
    return causes


def _required_terms(spec_: Json) -> list[Json] | None:
    affinity = (spec_.get("affinity") or {}).get("nodeAffinity") or {}
    found: list[Json] | None = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get(
        "nodeSelectorTerms"
    )
    return found


def _has_only_additions(term: Json, was: Json) -> bool:
    parts = [(term.get(name) or [], was.get(name) or []) for name in ("matchExpressions", "matchFields")]
    if not any(had for _, had in parts):
        return not any(has for has, _ in parts)
    return all(has[: len(had)] == had for has, had in parts)


def _with_updatable(new: Json, old: Json) -> Json:
    """`new` with all that an update may change taken from `old`; what still differs is forbidden."""
    munged: dict[str, Any] = copied(new)
    for kind in ("containers", "initContainers"):
        for container, before in zip(munged.get(kind) or (), old.get(kind) or (), strict=True):
            container["image"] = before.get("image")
    changeable = ["activeDeadlineSeconds", "schedulingGates", "tolerations"]
    if old.get("terminationGracePeriodSeconds", 0) < 0 and new.get("terminationGracePeriodSeconds") == 1:
        changeable.append("terminationGracePeriodSeconds")
    if old.get("schedulingGates"):
        changeable.append("nodeSelector")
        _keep_node_affinity(munged, old)
    for name in changeable:
        if name in old:
            munged[name] = old[name]
        else:
            munged.pop(name, None)
    return munged


def _keep_node_affinity(munged: dict[str, Any], old: Json) -> None:
    before = (old.get("affinity") or {}).get("nodeAffinity")
    if (munged.get("affinity") or {}).get("nodeAffinity") == before:
        return
    kept = {name: value for name, value in (munged.get("affinity") or {}).items() if name != "nodeAffinity"}
    if before is not None:
        kept["nodeAffinity"] = before
    if kept or (old.get("affinity") is not None and munged.get("affinity") is not None):
        munged["affinity"] = kept
    else:
        munged.pop("affinity", None)


def difference(old: Any, new: Any, path: str = "spec") -> str:
    """The changed leaves, one a line: a reader's help, not meant for programs."""
    if isinstance(old, dict) and isinstance(new, dict):
        changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        return "\n".join(difference(old.get(key), new.get(key), f"{path}.{key}") for key in changed)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(index, *pair) for index, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]]
        return "\n".join(difference(left, right, f"{path}[{index}]") for index, left, right in pairs)
    return f"-{path}: {faults.shown(old)}\n+{path}: {faults.shown(new)}"


def status_update(new: Object, old: Object) -> list[Cause]:
    status, before = new.get("status") or {}, old.get("status") or {}
    causes: list[Cause] = []
    if before.get("qosClass") and status.get("qosClass", "") != before["qosClass"]:
        causes += faults.immutable("status.qosClass", status.get("qosClass", ""), before["qosClass"])
    for index, condition in enumerate(status.get("conditions") or ()):
        kind = condition.get("type") or ""
        if "/" in kind:
            causes += faults.each(f"status.conditions[{index}].type", kind, formats.qualified_name(kind))
    if name := status.get("nominatedNodeName"):
        causes += faults.each("status.nominatedNodeName", name, formats.dns_subdomain(name))
    causes += _claim_statuses(status, new.get("spec") or {})
    return causes + _addresses(status, "podIPs") + _addresses(status, "hostIPs")


def _claim_statuses(status: Json, spec_: Json) -> list[Cause]:
    causes: list[Cause] = []
    known, seen = {claim.get("name") for claim in spec_.get("resourceClaims") or ()}, set()
    for index, found in enumerate(status.get("resourceClaimStatuses") or ()):
        at, name, claim = (
            f"status.resourceClaimStatuses[{index}]",
            found.get("name") or "",
            found.get("resourceClaimName"),
        )
        if name not in known:
            detail = "must match the name of an entry in `spec.resourceClaims`"
            causes.append(faults.invalid(f"{at}.name", name, detail))
        if name in seen:
            causes.append(faults.duplicate(f"{at}.name", name))
        seen.add(name)
        if claim is not None:
            causes += faults.each(f"{at}.resourceClaimName", claim, formats.dns_subdomain(claim))
    return causes


def _addresses(status: Json, field: str) -> list[Cause]:
    """At most one of each family, of which the first is also told alone."""
    path, found = f"status.{field}", [entry.get("ip") or "" for entry in status.get(field) or ()]
    causes: list[Cause] = []
    if field == "hostIPs" and found and found[0] != (status.get("hostIP") or ""):
        causes.append(faults.invalid(f"{path}[0].ip", found[0], "must be equal to `hostIP`"))
    wrong = [
        cause
        for index, address in enumerate(found)
        for cause in faults.each(f"{path}[{index}]", address, formats.ip_address(address))
    ]
    if not wrong and len(found) > 1 and (len(found) > 2 or len({":" in address for address in found}) == 1):
        detail = "may specify no more than one IP for each IP family"
        causes.append(faults.invalid(path, [{"IP": address} for address in found], detail))
    return causes + wrong


def ephemeral_update(new: Object, old: Object) -> list[Cause]:
    """The ephemeralcontainers subresource: containers may be added, none changed or removed."""
    causes = pod_faults.spec(new.get("spec") or {}, "spec")
    now = {c.get("name"): c for c in (new.get("spec") or {}).get("ephemeralContainers") or ()}
    for container in (old.get("spec") or {}).get("ephemeralContainers") or ():
        name = container.get("name")
        if name not in now:
            detail = f'existing ephemeral containers "{name}" may not be removed\n'
            causes.append(faults.forbidden("spec.ephemeralContainers", detail))
        elif now[name] != container:
            detail = f'existing ephemeral containers "{name}" may not be changed\n{difference(container, now[name])}'
            causes.append(faults.forbidden("spec.ephemeralContainers", detail))
    return causes
