"""Power on a namespace node: from a forked child of the supervisor to `catatonit -P` as PID 1 of namespaces of its own.

Child and parent take turns: the child makes its namespaces and says so; the parent, who alone stays in the host's
network, plugs the cable in; the child then configures its end, changes root and becomes PID 1. Everything of a node
hangs on PID 1: when it dies, the kernel ends the node's processes and mounts.
Errors: BootError with what the child said, and no process left.
"""

from __future__ import annotations

import os
import socket
import traceback
from dataclasses import dataclass

from infra.local import cgroups, network, rootfs, syscalls
from infra.topology import Node, Topology

NAMESPACES = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWCGROUP
)
INIT = ("/usr/bin/catatonit", "-P")
BOOT_TIMEOUT_S = 20.0
_ROOM = b"namespaces"
_CABLE = b"cable"


class BootError(RuntimeError):
    """A node did not come up; the message has its reason."""


@dataclass
class Booting:
    node: Node
    pid: int
    channel: socket.socket


def fork_in_pid_namespace(target: int | None) -> int:
    """os.fork() whose child is in the pid namespace of `target` (a pidfd), or is PID 1 of a new one, and is ours."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if target is None:
            syscalls.unshare(syscalls.CLONE_NEWPID)
        else:
            syscalls.setns(target, syscalls.CLONE_NEWPID)
        pid = os.fork()
        if pid != 0:
            syscalls.setns(own, syscalls.CLONE_NEWPID)
        return pid
    finally:
        os.close(own)


def start(topology: Topology, node: Node, sources: rootfs.Sources) -> Booting:
    """Fork the node's PID 1 up to the point where it waits for its cable."""
    rootfs.make_folders(sources)
    cgroups.make(sources.cgroup, node.user_id)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = fork_in_pid_namespace(None)
    if pid == 0:
        ours.close()
        _become_init(topology, node, sources, theirs)
    theirs.close()
    ours.settimeout(BOOT_TIMEOUT_S)
    return Booting(node, pid, ours)


def finish(topology: Topology, booting: Booting) -> int:
    """Plug the cable in and wait until PID 1 runs; its process id."""
    try:
        _expect(booting, _ROOM)
        network.plug(topology, booting.node, booting.pid)
        booting.channel.sendall(_CABLE)
        _expect(booting, b"")  # the descriptor closes with exec
        return booting.pid
    except (OSError, RuntimeError) as error:
        os.kill(booting.pid, 9)
        os.waitpid(booting.pid, 0)
        raise BootError(f"node {booting.node.name}: {error}") from error
    finally:
        booting.channel.close()


def _expect(booting: Booting, word: bytes) -> None:
    said = booting.channel.recv(65536)
    if said != word:
        raise BootError(said.decode() or "its first process died while it booted")


def _become_init(topology: Topology, node: Node, sources: rootfs.Sources, channel: socket.socket) -> None:
    try:
        os.setsid()
        cgroups.join(cgroups.UNIFIED / sources.cgroup)
        syscalls.unshare(NAMESPACES)
        cgroups.join(cgroups.UNIFIED / sources.cgroup / "init")
        socket.sethostname(node.name)
        channel.sendall(_ROOM)
        root = rootfs.assemble(sources)
        if channel.recv(64) != _CABLE:
            os._exit(1)
        rootfs.enter(root)
        rootfs.set_sysctls(node.user_id)
        network.ip_batch(network.node_commands(topology, node))
        channel.set_inheritable(False)
        os.execve(INIT[0], INIT, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    except BaseException:
        channel.sendall(traceback.format_exc().encode()[-4000:])
    finally:
        os._exit(1)
