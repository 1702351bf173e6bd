"""Work inside a pod's network namespace: one thread enters, does it, and ends there.

A network namespace belongs to a thread, so nothing else of the porter moves. The namespace is held by descriptor: a
process that ends meanwhile, and another that gets its pid, changes nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import TypeVar

from orchestrator.porter import syscalls
from orchestrator.porter.verbs import PorterError

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


async def run_inside(namespace: int, act: Callable[[], T]) -> T:
    """What `act` returns or raises, called in a thread of its own that is in the namespace (a descriptor)."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def enter() -> None:
        try:
            syscalls.setns(namespace, syscalls.CLONE_NEWNET)
            result = act()
        except BaseException as error:
            loop.call_soon_threadsafe(_fail, outcome, error)
        else:
            loop.call_soon_threadsafe(_succeed, outcome, result)

    threading.Thread(target=enter, name="netns", daemon=True).start()
    return await outcome


def _succeed(outcome: asyncio.Future[T], result: T) -> None:
    if not outcome.cancelled():
        outcome.set_result(result)


def _fail(outcome: asyncio.Future[T], error: BaseException) -> None:
    if not outcome.cancelled():
        outcome.set_exception(error)


def prepare() -> None:
    """The loopback up, and IPv6 addresses usable at once: nobody else can have an address that IPAM hands out, so
    waiting a second for duplicates gains nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("16xH", fcntl.ioctl(control, _SIOCGIFFLAGS, request))
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
    for scope in ("all", "default"):
        write_sysctl(f"net/ipv6/conf/{scope}/accept_dad", "0")


def write_sysctl(name: str, value: str) -> None:
    """Of the network namespace that this thread is in. A kernel without the protocol has no such file."""
    path = f"/proc/sys/{name}"
    if os.path.exists(path):  # noqa: PTH110 - procfs, in a thread
        with open(path, "w") as file:  # noqa: PTH123
            file.write(value)


def connect_to_localhost(port: int) -> int:
    """A connected socket's descriptor. Both families are tried, as a name `localhost` would be."""
    failure: OSError | None = None
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            made = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            failure = failure or error
            continue
        made.settimeout(CONNECT_TIMEOUT_S)
        try:
            made.connect((address, port))
            made.settimeout(None)
            return made.detach()
        except OSError as error:
            made.close()
            failure = failure or error
    raise PorterError(f"failed to connect to localhost:{port} inside the pod's network namespace: {failure}")
