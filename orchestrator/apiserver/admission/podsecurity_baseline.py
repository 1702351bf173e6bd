"""The baseline Pod Security Standard: what would let a pod out of its box. One function a check, in order of their ids.

Source: Kubernetes docs, "Pod Security Standards", Baseline; wording of kube-apiserver.
"""

from __future__ import annotations

from typing import Any

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

APPARMOR_PREFIX = "container.apparmor.security.beta.kubernetes.io/"
DEFAULT_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
    }
)  # fmt: skip
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
HOOKS = ("postStart", "preStop")


def apparmor(seen: Seen) -> Finding | None:
    found = []
    if (seen.security.get("appArmorProfile") or {}).get("type") == "Unconfined":
        found.append('pod must not set AppArmor profile type to "Unconfined"')
    names = seen.names(lambda one: (security_of(one).get("appArmorProfile") or {}).get("type") == "Unconfined")
    if names:
        found.append(f'{containers_are(names)} must not set AppArmor profile type to "Unconfined"')
    for key, value in sorted(seen.annotations.items()):
        allowed = value in ("", "runtime/default") or value.startswith("localhost/")
        if key.startswith(APPARMOR_PREFIX) and not allowed:
            found.append(f'annotation {key}="{value}"')
    if not found:
        return None
    return Finding(several("forbidden AppArmor profile", "forbidden AppArmor profiles", len(found)), ", ".join(found))


def capabilities(seen: Seen) -> Finding | None:
    added = {one["name"]: [name for name in _added(one) if name not in DEFAULT_CAPABILITIES] for one in seen.containers}
    names = [name for name, more in added.items() if more]
    if not names:
        return None
    what = quoted(sorted({capability for more in added.values() for capability in more}))
    detail = f"{containers_are(names)} must not include {what} in securityContext.capabilities.add"
    return Finding("non-default capabilities", detail)


def _added(container: Container) -> list[str]:
    return (security_of(container).get("capabilities") or {}).get("add") or []


def host_namespaces(seen: Seen) -> Finding | None:
    found = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if seen.spec.get(field)]
    return Finding("host namespaces", ", ".join(found)) if found else None


def host_paths(seen: Seen) -> Finding | None:
    names = [volume["name"] for volume in seen.spec.get("volumes") or () if "hostPath" in volume]
    if not names:
        return None
    return Finding("hostPath volumes", f"{several('volume', 'volumes', len(names))} {quoted(names)}")


def host_ports(seen: Seen) -> Finding | None:
    def ports_of(container: Container) -> list[str]:
        return [str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")]

    names = seen.names(lambda one: bool(ports_of(one)))
    if not names:
        return None
    ports = sorted({port for one in seen.containers for port in ports_of(one)})
    verb, what = several("uses", "use", len(names)), several("hostPort", "hostPorts", len(ports))
    return Finding("hostPort", f"{containers_are(names)} {verb} {what} {', '.join(ports)}")


def host_probes(seen: Seen) -> Finding | None:
    def hosts_of(container: Container) -> list[str]:
        lifecycle = container.get("lifecycle") or {}
        handlers = [container.get(probe) or {} for probe in PROBES] + [lifecycle.get(hook) or {} for hook in HOOKS]
        actions = [handler.get(action) or {} for handler in handlers for action in ("httpGet", "tcpSocket")]
        return [action["host"] for action in actions if action.get("host")]

    names = sorted(seen.names(lambda one: bool(hosts_of(one))))
    if not names:
        return None
    hosts = sorted({host for one in seen.containers for host in hosts_of(one)})
    what = several("probe or lifecycle host", "probe or lifecycle hosts", len(hosts))
    detail = f"{containers_are(names)} {several('uses', 'use', len(names))} {what} {quoted(hosts)}"
    return Finding("probe or lifecycle host", detail)


def privileged(seen: Seen) -> Finding | None:
    names = seen.names(lambda one: bool(security_of(one).get("privileged")))
    if not names:
        return None
    return Finding("privileged", f"{containers_are(names)} must not set securityContext.privileged=true")


def proc_mount(seen: Seen) -> Finding | None:
    if seen.has_own_users:
        return None
    names = seen.names(lambda one: security_of(one).get("procMount", "Default") != "Default")
    if not names:
        return None
    kinds = {security_of(one)["procMount"] for one in seen.containers if one["name"] in names}
    return Finding(
        "procMount", f"{containers_are(names)} must not set securityContext.procMount to {quoted(sorted(kinds))}"
    )


def selinux(seen: Seen) -> Finding | None:
    def is_bad(context: dict[str, Any]) -> bool:
        options = context.get("seLinuxOptions") or {}
        return options.get("type", "") not in SELINUX_TYPES or bool(options.get("user") or options.get("role"))

    names = seen.names(lambda one: is_bad(security_of(one)))
    pod_sets = is_bad(seen.security)
    if not names and not pod_sets:
        return None
    options = [context.get("seLinuxOptions") or {} for context in [seen.security, *map(security_of, seen.containers)]]
    types = sorted({one["type"] for one in options if one.get("type", "") not in SELINUX_TYPES})
    data = [f"{several('type', 'types', len(types))} {quoted(types)}"] if types else []
    data += [f"{field} may not be set" for field in ("user", "role") if any(one.get(field) for one in options)]
    detail = f"{setters(pod_sets, names)} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}"
    return Finding("seLinuxOptions", detail)


def seccomp(seen: Seen) -> Finding | None:
    def is_bad(context: dict[str, Any]) -> bool:
        return bool((context.get("seccompProfile") or {}).get("type") == "Unconfined")

    names, pod_sets = seen.names(lambda one: is_bad(security_of(one))), is_bad(seen.security)
    if not names and not pod_sets:
        return None
    detail = f'{setters(pod_sets, names)} must not set securityContext.seccompProfile.type to "Unconfined"'
    return Finding("seccompProfile", detail)


def sysctls(seen: Seen) -> Finding | None:
    found = [one["name"] for one in seen.security.get("sysctls") or () if one["name"] not in SAFE_SYSCTLS]
    return Finding("forbidden sysctls", ", ".join(found)) if found else None


def windows_host_process(seen: Seen) -> Finding | None:
    def is_bad(context: dict[str, Any]) -> bool:
        return bool((context.get("windowsOptions") or {}).get("hostProcess"))

    names, pod_sets = seen.names(lambda one: is_bad(security_of(one))), is_bad(seen.security)
    if not names and not pod_sets:
        return None
    detail = f"{setters(pod_sets, names)} must not set securityContext.windowsOptions.hostProcess=true"
    return Finding("hostProcess", detail)


CHECKS: dict[str, Check] = {
    "appArmorProfile": apparmor,
    "capabilities_baseline": capabilities,
    "hostNamespaces": host_namespaces,
    "hostPathVolumes": host_paths,
    "hostPorts": host_ports,
    "hostProbesAndHostLifecycle": host_probes,
    "privileged": privileged,
    "procMount": proc_mount,
    "seLinuxOptions": selinux,
    "seccompProfile_baseline": seccomp,
    "sysctls": sysctls,
    "windowsHostProcess": windows_host_process,
}
