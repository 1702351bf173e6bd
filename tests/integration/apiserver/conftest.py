from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.api.resources import SERVICEACCOUNTS
from tests.integration.store.test_etcd import EtcdServer
from tests.whole_server import WholeServer, whole_server


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[WholeServer]:
    async with whole_server(tmp_path) as started:
        await started.admin.create(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
        yield started


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    """An etcd of the test's own."""
    (tmp_path / "etcd").mkdir()
    server = EtcdServer(tmp_path / "etcd")
    server.start()
    try:
        yield server
    finally:
        server.stop()
