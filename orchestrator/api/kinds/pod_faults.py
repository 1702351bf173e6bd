"""What can be wrong with a pod, in a Pod and in every template; what an update may change is in `pod_update_faults`.

The order of the checks is kube-apiserver's, which is the order of the causes. Source: core/v1 API reference, PodSpec.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.api.kinds import (
    container_faults,
    faults,
    formats,
    resource_faults,
    scheduling_faults,
    sysctls,
    volume_faults,
)
from orchestrator.api.kinds.metadata import check_annotations, check_labels
from orchestrator.api.kinds.values import in_range, name_of, one_of
from orchestrator.api.meta import Object
from orchestrator.api.podresources import is_sidecar
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

INT32_MAX = 2**31 - 1
HOSTNAME_MAX = 64  # characters that Linux has room for
RESTART_RULES, EXIT_CODES = 20, 255
NAMESERVERS_MAX, SEARCHES_MAX, SEARCH_CHARACTERS_MAX = 3, 32, 2048
NEEDS_SIDECAR = "may not be set for init containers without restartPolicy=Always"


def create(pod: Object) -> list[Cause]:
    spec_ = pod.get("spec") or {}
    causes = spec(spec_, "spec", pod_name=(pod.get("metadata") or {}).get("name") or "")
    for kind in ("containers", "initContainers"):
        causes += image_blanks(spec_.get(kind) or (), f"spec.{kind}")
    if spec_.get("schedulingGates") and spec_.get("nodeName"):
        detail = "cannot be set until all schedulingGates have been cleared"
        causes.append(faults.forbidden("spec.nodeName", detail))
    causes += tokens_of_nobody(spec_)
    if spec_.get("ephemeralContainers"):
        detail = "cannot be set on create"
        causes.append(faults.forbidden("spec.ephemeralContainers", detail))
    return causes


def tokens_of_nobody(spec_: Json) -> list[Cause]:
    """A token is a service account's."""
    if spec_.get("serviceAccountName"):
        return []
    return [
        faults.forbidden(
            f"spec.volumes[{index}].projected.sources[{place}].serviceAccountToken",
            "must not be specified when serviceAccountName is not set",
        )
        for index, volume in enumerate(spec_.get("volumes") or ())
        for place, source in enumerate((volume.get("projected") or {}).get("sources") or ())
        if source.get("serviceAccountToken") is not None
    ]


def image_blanks(containers: Any, path: str) -> list[Cause]:
    detail = "must not have leading or trailing whitespace"
    return [
        faults.invalid(f"{path}[{index}].image", found["image"], detail)
        for index, found in enumerate(containers)
        if found.get("image") and found["image"] != found["image"].strip()
    ]


def template(found: Json | None, path: str) -> list[Cause]:
    """A pod template's faults."""
    found = found or {}
    metadata = found.get("metadata") or {}
    causes = check_labels(metadata.get("labels"), f"{path}.labels")
    causes += check_annotations(metadata.get("annotations"), f"{path}.annotations")
    causes += spec(found.get("spec") or {}, f"{path}.spec")
    if (found.get("spec") or {}).get("ephemeralContainers"):
        detail = "ephemeral containers not allowed in pod template"
        causes.append(faults.forbidden(f"{path}.spec.ephemeralContainers", detail))
    return causes


def spec(found: Json, path: str, *, pod_name: str = "") -> list[Cause]:
    causes, volumes = volume_faults.volumes(found.get("volumes") or (), f"{path}.volumes", pod_name)
    claims = {claim.get("name", "") for claim in found.get("resourceClaims") or ()}
    causes += _containers(found, path, volumes, claims)
    causes += _init_containers(found, path, volumes, claims)
    causes += _ephemeral_containers(found, path, volumes, claims)
    causes += resource_faults.requirements(found.get("resources"), f"{path}.resources", claims)
    causes += _host_network(found, path)
    causes += one_of(found.get("restartPolicy"), f"{path}.restartPolicy", ("Always", "OnFailure", "Never"))
    policies = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
    causes += one_of(found.get("dnsPolicy"), f"{path}.dnsPolicy", policies)
    causes += check_labels(found.get("nodeSelector"), f"{path}.nodeSelector")
    causes += _security(found, path)
    causes += scheduling_faults.affinity(found.get("affinity"), f"{path}.affinity")
    causes += _dns_config(found, f"{path}.dnsConfig")
    for index, gate in enumerate(found.get("readinessGates") or ()):
        kind = gate.get("conditionType") or ""
        causes += faults.each(f"{path}.readinessGates[{index}].conditionType", kind, formats.qualified_name(kind))
    causes += _scheduling_gates(found, f"{path}.schedulingGates")
    constraints = found.get("topologySpreadConstraints") or ()
    causes += scheduling_faults.spread_constraints(constraints, f"{path}.topologySpreadConstraints")
    causes += _hostname_override(found, f"{path}.hostnameOverride")
    causes += name_of(found.get("serviceAccountName"), f"{path}.serviceAccountName", formats.dns_subdomain)
    causes += name_of(found.get("nodeName"), f"{path}.nodeName", formats.dns_subdomain)
    causes += in_range(found.get("activeDeadlineSeconds"), f"{path}.activeDeadlineSeconds", 1, INT32_MAX)
    causes += name_of(found.get("hostname"), f"{path}.hostname", formats.dns_label)
    causes += name_of(found.get("subdomain"), f"{path}.subdomain", formats.dns_label)
    causes += scheduling_faults.tolerations(found.get("tolerations") or (), f"{path}.tolerations")
    causes += _host_aliases(found, f"{path}.hostAliases")
    causes += name_of(found.get("priorityClassName"), f"{path}.priorityClassName", formats.dns_subdomain)
    causes += name_of(found.get("runtimeClassName"), f"{path}.runtimeClassName", formats.dns_subdomain)
    policy = found.get("preemptionPolicy")
    causes += one_of(policy, f"{path}.preemptionPolicy", ("Never", "PreemptLowerPriority"), required=False)
    if found.get("os") is None:
        return causes
    system = found["os"].get("name") or ""
    if not system:
        return [*causes, faults.required(f"{path}.os.name")]
    return causes + one_of(system, f"{path}.os", ("linux", "windows"))


def _hostname_override(found: Json, path: str) -> list[Cause]:
    """KEP-4762."""
    name = found.get("hostnameOverride")
    if name is None:
        return []
    causes = [
        faults.forbidden(path, f"may not be specified when {other} is true")
        for other in ("setHostnameAsFQDN", "hostNetwork")
        if found.get(other)
    ]
    if len(name) > HOSTNAME_MAX:
        causes.append(faults.too_long(path, HOSTNAME_MAX))
    return causes + faults.each(path, name, formats.dns_subdomain(name))


# -- containers --------------------------------------------------------------------------------------------------------


def _containers(found: Json, path: str, volumes: Mapping[str, Json], claims: set[str]) -> list[Cause]:
    containers, at = found.get("containers") or (), f"{path}.containers"
    if not containers:
        return [faults.required(at)]
    causes: list[Cause] = []
    names: set[str] = set()
    grace = found.get("terminationGracePeriodSeconds")
    for index, container in enumerate(containers):
        where, name = f"{at}[{index}]", container.get("name") or ""
        causes += container_faults.container(container, where, volumes, claims, found)
        if name in names:
            causes.append(faults.duplicate(f"{where}.name", name))
        names.add(name)
        causes += container_faults.lifecycle(container.get("lifecycle"), f"{where}.lifecycle", grace)
        causes += container_faults.probes(container, where, grace)
        causes += _restart_policy(container, where)
        causes += container_faults.file_keys(container.get("env") or (), f"{where}.env", volumes)
    return causes + container_faults.host_port_conflicts(containers, at)


def _known(value: str | None, path: str, supported: tuple[str, ...]) -> list[Cause]:
    return [] if value in supported else [faults.not_supported(path, value or "", supported)]


def _restart_policy(container: Json, path: str) -> list[Cause]:
    policy = container.get("restartPolicy")
    causes = one_of(policy, f"{path}.restartPolicy", ("Always", "Never", "OnFailure"), required=False)
    if container.get("restartPolicyRules") and policy is None:
        detail = "must specify restartPolicy when restart rules are used"
        causes.append(faults.required(f"{path}.restartPolicy", detail))
    rules = container.get("restartPolicyRules") or ()
    if len(rules) > RESTART_RULES:
        causes.append(faults.too_many(f"{path}.restartPolicyRules", len(rules), RESTART_RULES))
    for index, rule in enumerate(rules):
        at, codes = f"{path}.restartPolicyRules[{index}]", rule.get("exitCodes")
        causes += _known(rule.get("action"), f"{at}.action", ("Restart", "RestartAllContainers"))
        if codes is None:
            causes.append(faults.required(f"{at}.exitCodes", "must be specified"))
            continue
        causes += _known(codes.get("operator"), f"{at}.exitCodes.operator", ("In", "NotIn"))
        if len(codes.get("values") or ()) > EXIT_CODES:
            causes.append(faults.too_many(f"{at}.exitCodes.values", len(codes["values"]), EXIT_CODES))
    return causes


def _init_containers(found: Json, path: str, volumes: Mapping[str, Json], claims: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    names = {container.get("name") for container in found.get("containers") or ()}
    grace = found.get("terminationGracePeriodSeconds")
    for index, container in enumerate(found.get("initContainers") or ()):
        where, name = f"{path}.initContainers[{index}]", container.get("name") or ""
        causes += container_faults.container(container, where, volumes, claims, found)
        causes += _restart_policy(container, where)
        if name in names:
            causes.append(faults.duplicate(f"{where}.name", name))
        elif name:
            names.add(name)
        causes += container_faults.host_port_conflicts([container], f"{path}.initContainers")
        if is_sidecar(container):
            causes += container_faults.lifecycle(container.get("lifecycle"), f"{where}.lifecycle", grace)
            causes += container_faults.probes(container, where, grace)
            continue
        for part in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
            if container.get(part) is not None:
                causes.append(faults.forbidden(f"{where}.{part}", NEEDS_SIDECAR))
    return causes


def _ephemeral_containers(found: Json, path: str, volumes: Mapping[str, Json], claims: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    others = {c.get("name") for kind in ("containers", "initContainers") for c in found.get(kind) or ()}
    names = set(others)
    not_allowed = ("ports", "lifecycle", "livenessProbe", "readinessProbe", "startupProbe", "resizePolicy")
    for index, container in enumerate(found.get("ephemeralContainers") or ()):
        where, name = f"{path}.ephemeralContainers[{index}]", container.get("name") or ""
        causes += container_faults.container(container, where, volumes, claims, found)
        causes += image_blanks([container], where)
        if name in names:
            causes.append(faults.duplicate(f"{where}.name", name))
        names.add(name)
        target = container.get("targetContainerName")
        if target and target not in others:
            causes.append(faults.not_found(f"{where}.targetContainerName", target))
        for part in not_allowed:
            if container.get(part):
                causes.append(faults.forbidden(f"{where}.{part}", "cannot be set for an Ephemeral Container"))
        if (container.get("resources") or {}) != {}:
            causes.append(faults.forbidden(f"{where}.resources", "cannot be set for an Ephemeral Container"))
    return causes


# -- the pod as a whole ------------------------------------------------------------------------------------------------


def _host_network(found: Json, path: str) -> list[Cause]:
    if not found.get("hostNetwork"):
        return []
    detail = "must match `containerPort` when `hostNetwork` is true"
    return [
        faults.invalid(f"{path}.containers[{index}].ports[{number}].hostPort", port["hostPort"], detail)
        for index, container in enumerate(found.get("containers") or ())
        for number, port in enumerate(container.get("ports") or ())
        if port.get("hostPort") and port["hostPort"] != port.get("containerPort")
    ]


def _security(found: Json, path: str) -> list[Cause]:
    context, at = found.get("securityContext") or {}, f"{path}.securityContext"
    high = container_faults.ID_MAX
    causes: list[Cause] = []
    for name in ("fsGroup", "runAsUser", "runAsGroup"):
        causes += in_range(context.get(name), f"{at}.{name}", 0, high)
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        causes += in_range(group, f"{at}.supplementalGroups[{index}]", 0, high)
    if found.get("shareProcessNamespace") and found.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        causes.append(faults.invalid(f"{at}.shareProcessNamespace", True, detail))
    causes += sysctls.sysctls(found, f"{at}.sysctls")
    policy = context.get("fsGroupChangePolicy")
    causes += one_of(policy, f"{at}.fsGroupChangePolicy", ("Always", "OnRootMismatch"), required=False)
    causes += container_faults.seccomp(context.get("seccompProfile"), f"{at}.seccompProfile")
    causes += container_faults.app_armor(context.get("appArmorProfile"), f"{at}.appArmorProfile")
    if found.get("hostUsers") is False:
        for name, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
            if found.get(name):
                causes.append(faults.forbidden(f"{path}.{shown}", "when `hostUsers` is false"))
    return causes


def _dns_config(found: Json, path: str) -> list[Cause]:
    config, none = found.get("dnsConfig"), found.get("dnsPolicy") == "None"
    if none and config is None:
        return [faults.required(path, "must provide `dnsConfig` when `dnsPolicy` is None")]
    config = config or {}
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if none and not servers:
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        return [faults.required(f"{path}.nameservers", detail)]
    causes: list[Cause] = []
    if len(servers) > NAMESERVERS_MAX:
        detail = f"must not have more than {NAMESERVERS_MAX} nameservers"
        causes.append(faults.invalid(f"{path}.nameservers", servers, detail))
    for index, server in enumerate(servers):
        causes += faults.each(f"{path}.nameservers[{index}]", server, formats.ip_address(server))
    if len(searches) > SEARCHES_MAX:
        detail = f"must not have more than {SEARCHES_MAX} search paths"
        causes.append(faults.invalid(f"{path}.searches", searches, detail))
    if len(" ".join(searches)) > SEARCH_CHARACTERS_MAX:
        detail = f"must not have more than {SEARCH_CHARACTERS_MAX} characters (including spaces) in the search list"
        causes.append(faults.invalid(f"{path}.searches", searches, detail))
    for index, search in enumerate(searches):
        name = search.removesuffix(".")
        if search != ".":
            causes += faults.each(f"{path}.searches[{index}]", search, formats.search_domain(name))
    for index, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            causes.append(faults.required(f"{path}.options[{index}]", "must not be empty"))
    return causes


def _scheduling_gates(found: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, gate in enumerate(found.get("schedulingGates") or ()):
        name = gate.get("name") or ""
        causes += faults.each(f"{path}[{index}]", name, formats.qualified_name(name))
        if name in seen:
            causes.append(faults.duplicate(f"{path}[{index}]", name))
        seen.add(name)
    return causes


def _host_aliases(found: Json, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, alias in enumerate(found.get("hostAliases") or ()):
        address = alias.get("ip") or ""
        causes += faults.each(f"{path}[{index}].ip", address, formats.ip_address(address))
        for number, name in enumerate(alias.get("hostnames") or ()):
            causes += faults.each(f"{path}[{index}].hostnames[{number}]", name, formats.dns_subdomain(name))
    return causes
