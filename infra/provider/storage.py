"""Storage: what pools, volumes and cloud-init disks share: the lock, look-ups, uploads, and who may read a volume.

libvirt refuses an operation on a pool that has another one under way ("pool has asynchronous jobs running"), so
operations on one pool of one hypervisor take turns here, and are tried again where another client is at it.
"""

from __future__ import annotations

import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from infra.provider.binding import libvirt
from infra.provider.resource import Context, ProviderError

BUSY_TIMEOUT_S = 60.0
BUSY_POLL_S = 0.2
CHUNK_BYTES = 1 << 20
SAY_EVERY_S = 1.0

Result = TypeVar("Result")
_turns: dict[tuple[str, str], threading.RLock] = {}
_turns_lock = threading.Lock()


@contextmanager
def turn(uri: str, pool: str) -> Iterator[None]:
    """One operation at a time on a pool."""
    with _turns_lock:
        lock = _turns.setdefault((uri, pool), threading.RLock())
    with lock:
        yield


def patiently(call: Callable[[], Result], clock: Callable[[], float] = time.monotonic) -> Result:
    """Try again while another client's job keeps the pool busy."""
    deadline = clock() + BUSY_TIMEOUT_S
    while True:
        try:
            return call()
        except libvirt.libvirtError as error:
            if "asynchronous jobs running" not in str(error) or clock() > deadline:
                raise
            time.sleep(BUSY_POLL_S)


def pool_named(context: Context, name: str, *, why: str) -> Any:
    """The pool, started if it is not active; ProviderError if there is none."""
    pool = find_pool(context.connection, name)
    if pool is None:
        raise ProviderError(
            f"{why}: there is no storage pool {name} on {context.uri}. Make one with Pool(name={name!r}) and pass its "
            f"name, or define it (virsh pool-define-as {name} dir --target FOLDER; virsh pool-start {name})."
        )
    if not pool.isActive():
        context.note(f"pool {name} was not active; it is started")
        pool.create()
    return pool


def find_pool(connection: Any, id: str) -> Any:
    """By UUID or name; None if there is none."""
    for lookup in (connection.storagePoolLookupByUUIDString, connection.storagePoolLookupByName):
        try:
            return lookup(id)
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_INVALID_ARG):
                raise
    return None


def find_volume(connection: Any, key: str, pool: str = "") -> Any:
    """By key or path; where it is not found, its pool is looked at again (started, refreshed). None: it is gone."""
    if (found := _volume_by_key(connection, key)) is not None:
        return found
    holder = find_pool(connection, pool) if pool else None
    if holder is None or not look_again(holder):
        return None
    return _volume_by_key(connection, key)


def look_again(pool: Any) -> bool:
    """Started if it was not, and its volumes as they are now. False if its folder is gone, and all of them with it."""
    try:
        if not pool.isActive():
            pool.create()
        patiently(lambda: pool.refresh())
    except libvirt.libvirtError as error:
        if "No such file or directory" not in str(error):
            raise
        return False
    return True


def volume_named(pool: Any, name: str) -> Any:
    try:
        return pool.storageVolLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise
    return None


def remove_volume(volume: Any) -> None:
    """Gone afterwards, also if it has gone already."""
    try:
        patiently(lambda: volume.delete(0))
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL and "No such file" not in str(error):
            raise


@dataclass(frozen=True, slots=True)
class Owner:
    """Who runs QEMU: the one who must be able to read a volume."""

    uid: int
    gid: int


_owners: dict[str, Owner | None] = {}  # by URI


def qemu_user(context: Context) -> Owner | None:
    """From the host's capabilities; None where libvirt labels no files. Asked once: where /dev/kvm is there and
    useless, libvirt takes many seconds to tell what the host can do."""
    if context.uri not in _owners:
        _owners[context.uri] = _qemu_user(context.connection)
    return _owners[context.uri]


def _qemu_user(connection: Any) -> Owner | None:
    root = ET.fromstring(connection.getCapabilities())
    for model in root.findall("host/secmodel"):
        if model.findtext("model") == "dac":
            for label in model.findall("baselabel"):
                uid, separator, gid = (label.text or "").replace("+", "").partition(":")
                if separator and uid.isdigit() and gid.isdigit():
                    return Owner(int(uid), int(gid))
    return None


def upload(context: Context, volume: Any, chunks: Iterator[bytes], total_bytes: int, what: str) -> None:
    """Send a file into a volume. Zero blocks travel as well; libvirtd writes what it gets."""
    stream = context.connection.newStream(0)
    sent, said = 0, context.clock()
    try:
        volume.upload(stream, 0, total_bytes, 0)
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                written = stream.send(bytes(view))
                if written < 0:
                    raise ProviderError(f"{what}: libvirt took {sent} of {total_bytes} bytes and no more")
                view = view[written:]
                sent += written
            if context.cancelled.is_set():
                raise ProviderError(f"{what}: interrupted after {sent} of {total_bytes} bytes")
            if context.clock() - said > SAY_EVERY_S:
                said = context.clock()
                context.say(f"{what}: {sent >> 20} of {total_bytes >> 20} MiB")
        if sent < total_bytes:  # a web server that breaks off looks like the end of the file
            raise ProviderError(f"{what}: it ended after {sent} of {total_bytes} bytes; nothing is kept of it")
        stream.finish()
    except BaseException:
        try:
            stream.abort()
        except libvirt.libvirtError:
            pass  # the connection has gone, and the stream with it
        raise


def _volume_by_key(connection: Any, key: str) -> Any:
    """None also for a volume that libvirt remembers and whose file is gone."""
    for lookup in (connection.storageVolLookupByKey, connection.storageVolLookupByPath):
        try:
            volume = lookup(key)
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_STORAGE_VOL, libvirt.VIR_ERR_INVALID_ARG):
                raise
            continue
        try:
            volume.info()
        except libvirt.libvirtError:
            return None
        return volume
    return None
