"""Which volume is to be attached to which node, and which no longer. Pure.

    wanted, free ------------------> Attach          wanted, another node has it -> Refuse
    not wanted, not in use --------> Detach          not wanted, in use ----------> Wait, until the kubelet lets go,
                                                     or the node is out of service, or silent for 6 minutes: Detach

A node's status says what the kubelet may mount (`volumesAttached`, ours) and what it has or is about to mount
(`volumesInUse`, the kubelet's). A volume is taken out of the first before it is detached, in a write that fails if the
second has changed meanwhile; the kubelet reads the first after it has written the second. Neither misses the other.
Source: attach/detach controller of Kubernetes; KEP-2268 non-graceful node shutdown.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from msgspec import Struct

from orchestrator.api import meta, volumes
from orchestrator.api.meta import Object
from orchestrator.controllers import node_health
from orchestrator.controllers.fields import spec, status_of
from orchestrator.controllers.podgc import is_out_of_service
from orchestrator.controllers.pods import created_at, is_terminal

UNMOUNT_PATIENCE_S = 360.0
ATTACHED = "SuccessfulAttachVolume"
FAILED = "FailedAttachVolume"
OUR_NAME = re.compile(r"csi-[0-9a-f]{64}")


class Seen(Struct, frozen=True):
    """Of one volume. `wanted`: node → the pods there that use it; `unwanted_s`: node → for how long none has."""

    volume: Object | None
    wanted: Mapping[str, tuple[Object, ...]]
    attachments: tuple[Object, ...]
    nodes: Mapping[str, Object]
    unwanted_s: Mapping[str, float]


class Attach(Struct, frozen=True):
    node: str


class Detach(Struct, frozen=True):
    node: str
    is_forced: bool = False


class Refuse(Struct, frozen=True):
    """The volume is another node's; `others` are pods that use it there."""

    node: str
    others: tuple[Object, ...]


class Wait(Struct, frozen=True):
    """For the kubelet; to be looked at again after so long, or None: when something changes."""

    node: str
    seconds: float | None


Action = Attach | Detach | Refuse | Wait


def plan(seen: Seen) -> list[Action]:
    """Detaches first, so that what they free can be attached at the next look."""
    actions: list[Action] = []
    holders = [spec(attachment)["nodeName"] for attachment in seen.attachments]
    for attachment in seen.attachments:
        node = spec(attachment)["nodeName"]
        if node not in seen.wanted and not meta.is_deleting(attachment):
            actions.append(_leave(seen, node))
    if seen.volume is None or meta.is_deleting(seen.volume):
        return actions
    exclusive = volumes.is_exclusive(seen.volume)
    for node in sorted(seen.wanted, key=lambda name: (min(map(created_at, seen.wanted[name])), name)):
        others = [holder for holder in holders if holder != node]
        if exclusive and others and node not in holders:
            users = tuple(pod for holder in others for pod in seen.wanted.get(holder, ()))
            actions.append(Refuse(node, users))
        elif node not in holders:
            actions.append(Attach(node))
            holders.append(node)
    return actions


def _leave(seen: Seen, node: str) -> Action:
    found = seen.nodes.get(node)
    if found is None or seen.volume is None or not is_in_use(found, seen.volume):
        return Detach(node)
    if is_out_of_service(found):
        return Detach(node, is_forced=True)
    if node_health.ready(found) == "True":
        return Wait(node, None)
    left_s = UNMOUNT_PATIENCE_S - seen.unwanted_s.get(node, 0.0)
    return Wait(node, left_s) if left_s > 0 else Detach(node, is_forced=True)


def name_of(volume: Object) -> str:
    """The unique name; "" of a volume that is no CSI driver's."""
    source = volumes.csi(volume)
    return volumes.unique_name(source["driver"], source["volumeHandle"]) if source else ""


def is_in_use(node: Object, volume: Object) -> bool:
    return name_of(volume) in (status_of(node).get("volumesInUse") or ())


def is_reported(node: Object, volume: Object) -> bool:
    return any(entry["name"] == name_of(volume) for entry in status_of(node).get("volumesAttached") or ())


def reported(node: Object, attached: Iterable[Object], wanted: Collection[str]) -> list[dict[str, Any]]:
    """`volumesAttached` as it should be: what is `attached` there and either wanted (by volume name) or in use."""
    names = {name_of(volume) for volume in attached if meta.name(volume) in wanted or is_in_use(node, volume)}
    return [{"name": name, "devicePath": ""} for name in sorted(names - {""})]


def is_ours(attachment: Object, volume: Object | None) -> bool:
    """Whether this controller made it, which its name tells. Anybody may make others, and they are left alone."""
    source = volumes.csi(volume) if volume is not None else None
    if source is None:  # the volume is gone: the kind of name must do
        return OUR_NAME.fullmatch(meta.name(attachment)) is not None
    node = spec(attachment)["nodeName"]
    return meta.name(attachment) == volumes.attachment_name(source["volumeHandle"], source["driver"], node)


def is_attached(attachment: Object) -> bool:
    return bool(status_of(attachment).get("attached")) and not meta.is_deleting(attachment)


def is_managed(node: Object | None) -> bool:
    return meta.annotations(node or {}).get(volumes.MANAGED_ATTACH) == "true"


def uses_volumes(pod: Object) -> bool:
    """Not any more when it has ended, or is being deleted and none of its containers runs."""
    if is_terminal(pod):
        return False
    states = [each.get("state") or {} for each in status_of(pod).get("containerStatuses") or ()]
    is_running = any("terminated" not in state and "waiting" not in state for state in states)
    return is_running or not meta.is_deleting(pod)


def refusal(volume: str, pod: Object, others: Iterable[Object]) -> str:
    """Why a pod's volume is not attached. Pods of other namespaces are counted, not named."""
    others = list(others)
    local = [meta.name(each) for each in others if meta.namespace(each) == meta.namespace(pod)]
    foreign = len(others) - len(local)
    if not others:
        why = "Volume is already exclusively attached to one node and can't be attached to another"
    elif local:
        why = f"Volume is already used by pod(s) {', '.join(local)}"
        why += f" and {foreign} pod(s) in different namespaces" if foreign else ""
    else:
        why = f"Volume is already used by {foreign} pod(s) in different namespaces"
    return f'Multi-Attach error for volume "{volume}" {why}'
