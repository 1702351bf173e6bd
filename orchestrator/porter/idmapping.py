"""A user namespace for id-mapped mounts: ids on a disk are what containers see, whichever node has the disk.

Each node maps container ids to a range of its own, so a file that a pod wrote on one node would be a stranger's on the
next, were the host's ids written. In the namespace made here id n inside is the host's id of container id n; a mount
with it stores n. The namespace has no process: the descriptor keeps it.
Source: mount_setattr(2), "ID-mapped mounts"; user_namespaces(7).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from orchestrator.porter.processes import IdMap
from orchestrator.porter.verbs import PorterError

# Says a word once it is in its namespace, and stays there until its input ends.
HOLDER = ("unshare", "--user", "sh", "-c", "echo; read word")


def lines(own: int, start: int, count: int) -> str:
    """For uid_map or gid_map: container id 0 is the kubelet's user, the others follow in its range."""
    return f"0 {own} 1\n" + (f"1 {start} {count}\n" if count else "")


def user_namespace(ids: IdMap) -> int:
    """A descriptor, which the caller closes."""
    try:
        holder = subprocess.Popen(HOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise PorterError(f"no user namespace for a disk's ids: {error}") from error
    with holder:
        assert holder.stdout is not None, "it was asked for"
        if not holder.stdout.readline():
            raise PorterError("no user namespace for a disk's ids: is user.max_user_namespaces 0 on this node?")
        process = Path(f"/proc/{holder.pid}")
        (process / "uid_map").write_text(lines(ids.user_id, ids.uid_start, ids.uid_count))
        (process / "gid_map").write_text(lines(ids.group_id, ids.gid_start, ids.gid_count))
        return os.open(process / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
