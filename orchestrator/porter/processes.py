"""Processes that the kubelet names by pid: is it one of its user's containers, and which network namespace has it?

A pid alone says nothing (it may be anybody's, it may be reused), so it is accepted only when the process runs in a user
namespace of the kubelet's user, and remembered together with its start time. Source: proc(5), user_namespaces(7).
"""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from orchestrator.porter.verbs import PorterError


class IdMap(Struct, frozen=True):
    """The ids of the kubelet's user: container id 0 is the user, id n is start + n - 1 (rootless Podman's mapping)."""

    user_id: int
    group_id: int
    uid_start: int
    uid_count: int
    gid_start: int
    gid_count: int

    def host_uid(self, container_id: int) -> int:
        return _mapped(container_id, self.user_id, self.uid_start, self.uid_count, "user")

    def host_gid(self, container_id: int) -> int:
        return _mapped(container_id, self.group_id, self.gid_start, self.gid_count, "group")

    def owns(self, host_uid: int) -> bool:
        return host_uid == self.user_id or self.uid_start <= host_uid < self.uid_start + self.uid_count


def _mapped(container_id: int, own: int, start: int, count: int, kind: str) -> int:
    if container_id == 0:
        return own
    if not 0 < container_id <= count:
        raise PorterError(f"{kind} id {container_id} is outside of the {count} ids that this node maps")
    return start + container_id - 1


def parse_subordinate(text: str, user: str, user_id: int) -> tuple[int, int]:
    """(start, count) of the user's first line in /etc/subuid or /etc/subgid; (0, 0) without one."""
    for line in text.splitlines():
        owner, _, rest = line.partition(":")
        start, _, count = rest.partition(":")
        if owner in (user, str(user_id)) and start.isdigit() and count.isdigit():
            return int(start), int(count)
    return 0, 0


def start_time(pid: int) -> str:
    """The process' start in clock ticks since boot: with the pid it names one process for good. PorterError if gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError as error:
        raise PorterError(f"process {pid} is gone") from error
    return stat.rpartition(")")[2].split()[19]


def check_owned(pid: int, ids: IdMap) -> None:
    """Raises PorterError unless the process belongs to the kubelet's user."""
    try:
        owner = os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116
        uids = next(
            line.split()[1:] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:")
        )
    except (OSError, StopIteration) as error:
        raise PorterError(f"process {pid} is gone") from error
    # /proc/PID belongs to root where a process is not dumpable; its real uid tells then.
    if not (ids.owns(owner) or ids.owns(int(uids[0]))):
        raise PorterError(f"process {pid} belongs to uid {uids[0]}, not to a container of this node's kubelet")


def open_network_namespace(pid: int) -> int:
    """A descriptor of its network namespace. PorterError where it shares the node's own."""
    try:
        descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PorterError(f"process {pid} is gone") from error
    if os.fstat(descriptor).st_ino == os.stat("/proc/self/ns/net").st_ino:  # noqa: PTH116
        os.close(descriptor)
        raise PorterError(f"process {pid} is in the node's own network namespace")
    return descriptor
