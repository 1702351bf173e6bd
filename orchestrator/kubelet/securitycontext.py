"""A pod's and a container's security context as one: what the process may do, for the runtime. Pure.

The container's field wins over the pod's. Groups: fsGroup and supplementalGroups are added to the process's own.
Errors: SecurityError in the kubelet's words where runAsNonRoot cannot be kept (CreateContainerConfigError).
Source: API reference, SecurityContext, PodSecurityContext; kubelet's securitycontext package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.kubelet import podspec
from orchestrator.kubelet.podspec import Container
from orchestrator.kubelet.runtime.interface import Security


class SecurityError(Exception):
    """The container must not run as it is written."""


def of_container(pod: Object, container: Container, image_user: str, seccomp_dir: Path) -> Security:
    whole: dict[str, Any] = podspec.spec(pod).get("securityContext") or {}
    own: dict[str, Any] = container.get("securityContext") or {}
    merged = {**whole, **own}
    _check_non_root(pod, container, merged, image_user)
    capabilities = own.get("capabilities") or {}
    return Security(
        user=_user(merged, image_user),
        groups=_groups(whole),
        capabilities_add=_capabilities(capabilities.get("add")),
        capabilities_drop=_capabilities(capabilities.get("drop")),
        is_privileged=bool(own.get("privileged")),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
        seccomp_profile=_seccomp(merged.get("seccompProfile"), seccomp_dir),
        unmasked_proc=own.get("procMount") == "Unmasked",
    )


def sysctls(pod: Object) -> dict[str, str]:
    found = (podspec.spec(pod).get("securityContext") or {}).get("sysctls") or ()
    return {sysctl["name"]: sysctl["value"] for sysctl in found}


def fs_group(pod: Object) -> int | None:
    found: int | None = (podspec.spec(pod).get("securityContext") or {}).get("fsGroup")
    return found


def common_user(pod: Object) -> int | None:
    """The user that all containers run as, if they say so and agree."""
    whole = (podspec.spec(pod).get("securityContext") or {}).get("runAsUser")
    users = {
        (container.get("securityContext") or {}).get("runAsUser", whole) for _, container in podspec.all_containers(pod)
    }
    only = next(iter(users)) if len(users) == 1 else None
    return int(only) if only is not None else None


def _check_non_root(pod: Object, container: Container, merged: dict[str, Any], image_user: str) -> None:
    if not merged.get("runAsNonRoot"):
        return
    described = f'(pod: "{meta.name(pod)}_{meta.namespace(pod)}({meta.uid(pod)})", container: {container["name"]})'
    user = merged.get("runAsUser")
    if user is not None:
        if int(user) == 0:
            raise SecurityError(f"container's runAsUser breaks non-root policy {described}")
        return
    name = image_user.partition(":")[0]
    if name in ("", "0", "root"):
        raise SecurityError(f"container has runAsNonRoot and image will run as root {described}")
    if not name.isdigit():
        raise SecurityError(
            f"container has runAsNonRoot and image has non-numeric user ({name}), "
            f"cannot verify user is non-root {described}"
        )


def _user(merged: dict[str, Any], image_user: str) -> str:
    user, group = merged.get("runAsUser"), merged.get("runAsGroup")
    if user is None and group is None:
        return ""
    named = str(user) if user is not None else image_user.partition(":")[0] or "0"
    return f"{named}:{group}" if group is not None else named


def _groups(whole: dict[str, Any]) -> tuple[str, ...]:
    found = [*(whole.get("supplementalGroups") or ())]
    if whole.get("fsGroup") is not None:
        found.append(whole["fsGroup"])
    return tuple(str(group) for group in dict.fromkeys(found))


def _capabilities(listed: list[str] | None) -> tuple[str, ...]:
    """With the prefix that the runtime wants; ALL has none."""
    names = [name.upper() for name in listed or ()]
    return tuple(name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}" for name in names)


def _seccomp(profile: dict[str, Any] | None, folder: Path) -> str:
    kind = (profile or {}).get("type", "Unconfined")
    if kind == "Localhost":
        return str(folder / (profile or {})["localhostProfile"])
    return "unconfined" if kind == "Unconfined" else ""
