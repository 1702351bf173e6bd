"""The encryption configuration while the server runs: a changed file is taken over, a wrong one is not."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from orchestrator.api.clock import SystemClock
from orchestrator.apiserver.encryption_reload import EncryptionKeeper
from orchestrator.store.encryption.configuration import ConfigurationError
from orchestrator.store.encryption.sealedstore import EncryptedStore
from orchestrator.store.memory import MemoryStore
from tests.kms_plugin import KmsPlugin
from tests.unit.store.test_encryption import KEY, OTHER, configuration, sealed

GCM = sealed("aesgcm", ("a", KEY))
BOX = sealed("secretbox", ("b", OTHER))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "encryption.yaml"
    replace(path, GCM)
    return path


def replace(path: Path, *providers: dict[str, Any]) -> None:
    """At once, as an editor or a mounted volume does it."""
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump(configuration(*providers)))
    new.rename(path)


def keeper(path: Path, *, reload: bool = True) -> EncryptionKeeper:
    return EncryptionKeeper(str(path), SystemClock(), lambda: str(uuid.uuid4()), "a", reload=reload, poll_s=0.01)


@pytest_asyncio.fixture
async def kept(file: Path) -> AsyncIterator[tuple[EncryptionKeeper, EncryptedStore]]:
    started = keeper(file)
    store = await started.opened(MemoryStore())
    running = asyncio.create_task(started.run())
    yield started, store
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await started.close()


def count(kept: EncryptionKeeper, status: str) -> int:
    lines = [line for line in kept.metrics() if f'status="{status}"' in line and "_total{" in line]
    return int(lines[0].rpartition(" ")[2]) if lines else 0


async def reached(kept: EncryptionKeeper, status: str, number: int) -> None:
    async with asyncio.timeout(60):
        while count(kept, status) < number:
            await asyncio.sleep(0.01)


async def test_a_changed_file_is_taken_over(kept: tuple[EncryptionKeeper, EncryptedStore], file: Path) -> None:
    started, store = kept
    assert store.encryption.seal("secrets/default/a", b"1").startswith(b"k8s:enc:aesgcm:v1:a:")
    await store.create("secrets/default/old", b"1")
    replace(file, BOX, GCM)
    await reached(started, "success", 1)
    assert store.encryption.seal("secrets/default/a", b"1").startswith(b"k8s:enc:secretbox:v1:b:")
    found = await store.get("secrets/default/old")
    assert found is not None
    assert found.value == b"1"
    assert any(f'hash="{store.encryption.content_hash}"}} 1' in line for line in started.metrics())


async def test_a_file_that_cannot_be_used_changes_nothing(
    kept: tuple[EncryptionKeeper, EncryptedStore], file: Path
) -> None:
    started, store = kept
    before = store.encryption
    file.write_text("kind: [")
    await reached(started, "failure", 1)
    file.unlink()
    await reached(started, "failure", count(started, "failure") + 1)
    assert store.encryption is before
    replace(file, BOX, GCM)
    await reached(started, "success", 1)


async def test_a_new_service_has_to_be_well_first(
    kept: tuple[EncryptionKeeper, EncryptedStore], file: Path, tmp_path: Path
) -> None:
    started, store = kept
    kms = {"kms": {"apiVersion": "v2", "name": "p", "endpoint": f"unix://{tmp_path}/kms.sock", "timeout": "50ms"}}
    replace(file, kms, GCM)
    await asyncio.sleep(0.1)
    assert store.encryption.seal("secrets/default/a", b"1").startswith(b"k8s:enc:aesgcm:v1:a:")
    with KmsPlugin(tmp_path / "kms.sock") as plugin:
        await reached(started, "success", 1)
        assert store.encryption.seal("secrets/default/a", b"1").startswith(b"k8s:enc:kms:v2:p:")
        assert await started.check() is None
        assert plugin.calls[:2] == ["Status", "Encrypt"]


async def test_without_reload_the_file_is_read_once(file: Path) -> None:
    started = keeper(file, reload=False)
    store = await started.opened(MemoryStore())
    replace(file, BOX, GCM)
    await asyncio.wait_for(started.run(), 60)
    assert store.encryption.seal("secrets/default/a", b"1").startswith(b"k8s:enc:aesgcm:v1:a:")
    assert not started.has_check


async def test_start_up_refuses_a_wrong_file(file: Path) -> None:
    file.write_text("")
    with pytest.raises(ConfigurationError, match="is empty"):
        await keeper(file).opened(MemoryStore())
    with pytest.raises(ConfigurationError, match="error while loading file"):
        await keeper(file.with_name("other")).opened(MemoryStore())
