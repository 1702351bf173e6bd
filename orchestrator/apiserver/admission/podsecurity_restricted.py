"""The restricted Pod Security Standard: a pod that has given up what it does not need. One function a check.

Three of them are stricter forms of baseline checks and stand in their place.
Source: Kubernetes docs, "Pod Security Standards", Restricted; wording of kube-apiserver.
"""

from __future__ import annotations

from orchestrator.apiserver.admission.podsecurity_view import (
    Check,
    Container,
    Finding,
    Seen,
    containers_are,
    quoted,
    security_of,
    setters,
    several,
)

ALLOWED_VOLUMES = frozenset(
    {
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected",
        "secret",
    }
)  # fmt: skip
CONFINED = ("RuntimeDefault", "Localhost")
MAY_ADD = "NET_BIND_SERVICE"


def allow_privilege_escalation(seen: Seen) -> Finding | None:
    names = seen.names(lambda one: security_of(one).get("allowPrivilegeEscalation") is not False)
    if not names or seen.is_windows:
        return None
    detail = f"{containers_are(names)} must set securityContext.allowPrivilegeEscalation=false"
    return Finding("allowPrivilegeEscalation != false", detail)


def capabilities(seen: Seen) -> Finding | None:
    if seen.is_windows:
        return None

    def listed(container: Container, kind: str) -> list[str]:
        return (security_of(container).get("capabilities") or {}).get(kind) or []

    details = []
    if keeping := seen.names(lambda one: "ALL" not in listed(one, "drop")):
        details.append(f'{containers_are(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding := seen.names(lambda one: any(name != MAY_ADD for name in listed(one, "add"))):
        added = sorted({name for one in seen.containers for name in listed(one, "add") if name != MAY_ADD})
        details.append(f"{containers_are(adding)} must not include {quoted(added)} in securityContext.capabilities.add")
    return Finding("unrestricted capabilities", "; ".join(details)) if details else None


def volumes(seen: Seen) -> Finding | None:
    bad = {}
    for volume in seen.spec.get("volumes") or ():
        kinds = [kind for kind in volume if kind != "name" and kind not in ALLOWED_VOLUMES]
        if kinds:
            bad[volume["name"]] = kinds[0]
    if not bad:
        return None
    kinds = sorted(set(bad.values()))
    names = f"{several('volume', 'volumes', len(bad))} {quoted(bad)}"
    what = several("restricted volume type", "restricted volume types", len(kinds))
    return Finding("restricted volume types", f"{names} {several('uses', 'use', len(bad))} {what} {quoted(kinds)}")


def run_as_non_root(seen: Seen) -> Finding | None:
    if seen.has_own_users:
        return None
    pod = seen.security.get("runAsNonRoot")
    explicit = seen.names(lambda one: security_of(one).get("runAsNonRoot") is False)
    silent = seen.names(lambda one: security_of(one).get("runAsNonRoot") is None)
    if pod is False or explicit:
        detail = f"{setters(pod is False, explicit)} must not set securityContext.runAsNonRoot=false"
    elif silent and pod is None:
        detail = f"pod or {containers_are(silent)} must set securityContext.runAsNonRoot=true"
    else:
        return None
    return Finding("runAsNonRoot != true", detail)


def run_as_user(seen: Seen) -> Finding | None:
    if seen.has_own_users:
        return None
    pod_sets = seen.security.get("runAsUser") == 0
    names = seen.names(lambda one: security_of(one).get("runAsUser") == 0)
    if not names and not pod_sets:
        return None
    return Finding("runAsUser=0", f"{setters(pod_sets, names)} must not set runAsUser=0")


def seccomp(seen: Seen) -> Finding | None:
    if seen.is_windows:
        return None

    def kind_of(container: Container) -> str | None:
        return (security_of(container).get("seccompProfile") or {}).get("type")

    pod = (seen.security.get("seccompProfile") or {}).get("type")
    explicit = seen.names(lambda one: kind_of(one) not in (None, *CONFINED))
    silent = seen.names(lambda one: kind_of(one) is None)
    pod_is_bad = pod not in (None, *CONFINED)
    if pod_is_bad or explicit:
        bad = {pod} if pod_is_bad else set()
        bad |= {kind_of(one) for one in seen.containers if one["name"] in explicit}
        kinds = quoted(sorted(kind for kind in bad if kind))
        detail = f"{setters(pod_is_bad, explicit)} must not set securityContext.seccompProfile.type to {kinds}"
    elif silent and pod is None:
        wanted = 'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
        detail = f"pod or {containers_are(silent)} must set {wanted}"
    else:
        return None
    return Finding("seccompProfile", detail)


CHECKS: dict[str, Check] = {
    "allowPrivilegeEscalation": allow_privilege_escalation,
    "capabilities_restricted": capabilities,
    "restrictedVolumes": volumes,
    "runAsNonRoot": run_as_non_root,
    "runAsUser": run_as_user,
    "seccompProfile_restricted": seccomp,
}
REPLACED = frozenset({"capabilities_baseline", "hostPathVolumes", "seccompProfile_baseline"})
