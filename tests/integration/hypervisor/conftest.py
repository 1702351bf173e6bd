"""libvirtds of our own for tests, each with a folder and networks that no other has."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.hypervisor import host
from infra.hypervisor.libvirtd import Libvirtd


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    assert os.geteuid() == 0, "a libvirtd of our own needs root; run the tests as root"
    host.install_missing(print)


@pytest.fixture(scope="module")
def new_libvirtd() -> Iterator[Callable[..., Libvirtd]]:
    """Each call makes one (not started); all are removed at the end. Networks: 172.31.N.0/24 and fd00:172:32:N::/64."""
    made: list[Libvirtd] = []

    def new() -> Libvirtd:
        number = (os.getpid() * 4 + len(made)) % 250
        folder = Path(tempfile.mkdtemp(prefix="sampan-hv-", dir="/var/lib"))
        made.append(Libvirtd(folder, (f"172.31.{number}.0/24", f"fd00:172:32:{number:x}::/64")))
        return made[-1]

    yield new
    for libvirtd in made:
        libvirtd.remove()
        for folder in (libvirtd.folder, libvirtd.folder.with_name(f"{libvirtd.folder.name}-pool")):
            shutil.rmtree(folder, ignore_errors=True)
