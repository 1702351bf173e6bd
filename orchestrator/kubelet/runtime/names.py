"""How pods and containers are found again in the runtime: names and labels.

A container is called `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`, a sandbox likewise with `POD` as container.
No part can hold an underscore, so a name can be taken apart; and it is unique, so creating twice fails.
"""

from __future__ import annotations

from typing import NamedTuple

SANDBOX = "POD"
PREFIX = "k8s_"

POD_UID = "io.kubernetes.pod.uid"
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
CONTAINER_NAME = "io.kubernetes.container.name"
CONTAINER_KIND = "io.kubernetes.container.kind"
CONTAINER_ATTEMPT = "io.kubernetes.container.restartCount"
CONTAINER_HASH = "io.kubernetes.container.hash"
OURS = "io.sampan.kubelet"


class Name(NamedTuple):
    container: str
    pod: str
    namespace: str
    uid: str
    attempt: int

    def __str__(self) -> str:
        return f"{PREFIX}{self.container}_{self.pod}_{self.namespace}_{self.uid}_{self.attempt}"


def parse(text: str) -> Name | None:
    """The parts of a name of ours, None for any other."""
    parts = text.removeprefix("/").split("_")
    if len(parts) != 6 or parts[0] != "k8s" or not parts[5].isdigit():
        return None
    return Name(parts[1], parts[2], parts[3], parts[4], int(parts[5]))
