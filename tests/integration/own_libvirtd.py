"""A libvirtd of a test's own, in a folder of its own, with nothing left of either afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.hypervisor import host
from infra.hypervisor.libvirtd import Libvirtd


@contextmanager
def own_libvirtd(networks: tuple[str, ...] = ()) -> Iterator[Libvirtd]:
    """`networks` are those that the host shall reach; without any, any number of these may run at once."""
    assert os.geteuid() == 0, "a libvirtd of our own needs root; run the tests as root"
    host.install_missing(print)
    folder = Path(tempfile.mkdtemp(prefix="sampan-hv-", dir="/var/lib"))
    made = Libvirtd(folder, networks)
    try:
        made.start()
        yield made
    finally:
        made.remove()
        shutil.rmtree(folder, ignore_errors=True)
