"""Kernel parameters that a pod asks for, `spec.securityContext.sysctls`.

A name is written with dots or, as `net/ipv4/conf/eno2.100/rp_filter`, with slashes where a part has a dot in it.
One that belongs to a namespace which the pod shares with its node cannot be set for the pod alone.
Source: Kubernetes docs, "Using sysctls in a Kubernetes Cluster"; sysctl.d(5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.api.kinds import faults
from orchestrator.api.status import Cause

Json = Mapping[str, Any]

NAME_CHARACTERS_MAX = 253
_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_NAME = rf"^({_SEGMENT}[\./])*{_SEGMENT}$"
_RULE = f"must have at most {NAME_CHARACTERS_MAX} characters and match regex {_NAME}"
_SWAPPED = str.maketrans("./", "/.")
_OF_IPC = frozenset(
    f"kernel.{name}"
    for name in ("sem", "shm", "shmall", "shmmax", "shmmni", "shm_rmid_forced", "msg", "msgmax", "msgmnb", "msgmni")
)


def sysctls(pod: Json, path: str) -> list[Cause]:
    """What is wrong with those of a pod spec; `path` is the list's."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, wanted in enumerate((pod.get("securityContext") or {}).get("sysctls") or ()):
        name, at = wanted.get("name") or "", f"{path}[{index}].name"
        if not name:
            causes.append(faults.required(at))
        elif len(name) > NAME_CHARACTERS_MAX or not re.fullmatch(_NAME, name):
            causes.append(faults.invalid(at, name, _RULE))
        elif name in seen:
            causes.append(faults.duplicate(at, name))
        shared = namespace_field(name)
        if shared and pod.get(shared):
            causes.append(faults.invalid(at, name, f"may not be specified when '{shared}' is true"))
        seen.add(name)
    return causes


def namespace_field(name: str) -> str:
    """`hostNetwork` or `hostIPC`: the field by which a pod shares the namespace that the parameter belongs to."""
    name = normalized(name)
    if name.startswith("net."):
        return "hostNetwork"
    return "hostIPC" if name in _OF_IPC or name.startswith("fs.mqueue.") else ""


def normalized(name: str) -> str:
    """The name with dots between its parts: what comes first, a dot or a slash, is the separator."""
    first = re.search(r"[./]", name)
    return name.translate(_SWAPPED) if first and first[0] == "/" else name
