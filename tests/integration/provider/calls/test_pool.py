"""A pool whose folder is gone behind everybody's back: it can be made again, and it can be destroyed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.provider.calls.small_engine import Resource

New = Callable[..., Resource]
VOLUME = {"name": "v", "pool": "pool", "size": 1 << 20}


@dataclass
class Gone:
    folder: Path
    inputs: dict[str, Any]
    pool: Resource
    volume: Resource


@pytest.fixture(params=["active", "stopped"])
def gone(resource: New, connection: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Gone:
    folder = tmp_path / "parent/pool"
    inputs = {"name": "pool", "type": "dir", "target": {"path": str(folder)}}
    made = Gone(folder, inputs, resource("Pool", "pool"), resource("Volume", "v"))
    made.pool.up(inputs)
    made.volume.up(VOLUME)
    if request.param == "stopped":
        connection.storagePoolLookupByName("pool").destroy()
    shutil.rmtree(folder.parent)
    return made


def test_it_is_destroyed(gone: Gone, connection: Any, words: list[str]) -> None:
    gone.volume.delete()
    gone.pool.delete()
    assert connection.listAllStoragePools() == []
    assert words == []


def test_it_is_made_again(gone: Gone, connection: Any) -> None:
    assert not gone.volume.refresh()
    assert gone.pool.refresh()
    assert gone.pool.up(gone.inputs) == "update"
    assert gone.volume.up(VOLUME) == "create"
    assert (gone.folder / "v").exists()
    assert gone.pool.refresh()
    assert gone.pool.up(gone.inputs) == "same"
    gone.volume.delete()
    gone.pool.delete()
    assert not gone.folder.parent.exists()
