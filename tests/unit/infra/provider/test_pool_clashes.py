"""A pool's folder is nobody else's; pools that go meanwhile do not matter."""

from __future__ import annotations

import pytest

from infra.provider import pool
from infra.provider.binding import libvirt
from infra.provider.pool import PoolInputs
from infra.provider.resource import ProviderError

XML = "<pool type='dir'><name>{0}</name><target><path>{1}</path></target></pool>"


class Gone(libvirt.libvirtError):  # type: ignore[misc]
    def __init__(self) -> None:
        Exception.__init__(self, "Storage pool not found")

    def get_error_code(self) -> int:
        return int(libvirt.VIR_ERR_NO_STORAGE_POOL)


class Pool:
    def __init__(self, name: str, path: str = "") -> None:
        self._name, self._path = name, path

    def name(self) -> str:
        return self._name

    def XMLDesc(self, flags: int) -> str:
        if not self._path:
            raise Gone
        return XML.format(self._name, self._path)


class Connection:
    def __init__(self, *pools: Pool) -> None:
        self._pools = pools

    def listAllStoragePools(self) -> list[Pool]:
        return [*self._pools]


WANTED = PoolInputs(type="dir", name="new", path="/srv/a")


def test_one_that_another_update_has_just_removed_is_passed_over() -> None:
    pool._refuse_same_folder(Connection(Pool("gone"), Pool("other", "/srv/b")), WANTED)


def test_the_folder_of_another_is_refused() -> None:
    with pytest.raises(ProviderError, match="is that of the pool other"):
        pool._refuse_same_folder(Connection(Pool("gone"), Pool("other", "/srv/a/")), WANTED)
