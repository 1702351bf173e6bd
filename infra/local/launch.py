"""Start a lab's supervisor: a process that leaves its starter, in a mount namespace whose root is the node image.

Its root is read-only but for /run and /tmp; the host's root is at /mnt. It stays in the host's network, pid and other
namespaces. Output goes to the lab's supervisor.log.
"""

from __future__ import annotations

import os
from pathlib import Path

from infra.local import syscalls
from infra.local.layout import HOST, Layout

ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


def launch(layout: Layout, tree: Path, code: Path) -> None:
    """Returns at once; the control socket appears when the nodes have booted."""
    first = os.fork()
    if first:
        _, status = os.waitpid(first, 0)
        if status:
            raise RuntimeError(f"the supervisor of lab {layout.name} could not be started: see {layout.supervisor_log}")
        return
    code_ = 1
    try:
        os.setsid()
        output = os.open(layout.supervisor_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nothing = os.open("/dev/null", os.O_RDONLY)
        for number, source in ((0, nothing), (1, output), (2, output)):
            os.dup2(source, number)
        os.closerange(3, 4096)
        if os.fork() == 0:
            enter_image(tree, code)
            os.execve("/usr/bin/python3", ["python3", "-m", "infra.local.supervisor", layout.name], ENVIRONMENT)
        code_ = 0
    except BaseException as error:
        os.write(2, f"{error}\n".encode())
    finally:
        os._exit(code_)


def enter_image(tree: Path, code: Path) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.bind(tree, tree)
    syscalls.bind("/", f"{tree}{HOST}", recursive=True)
    for place in ("proc", "sys", "dev"):
        syscalls.bind(f"/{place}", tree / place, recursive=True)
    for place in ("run", "tmp"):
        syscalls.mount("tmpfs", tree / place, "tmpfs")
    syscalls.bind(code, tree / "opt/sampan/src", read_only=True)
    syscalls.mount("", tree, flags=syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)
    # Not chroot: whoever is in one may not make user namespaces.
    os.chdir(tree)
    syscalls.pivot_root(".", ".")
    syscalls.unmount(".")
    os.chdir("/")
