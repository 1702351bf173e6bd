from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from orchestrator.api.resources import SERVICEACCOUNTS
from tests.whole_server import WholeServer, whole_server


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[WholeServer]:
    async with whole_server(tmp_path) as started:
        await started.admin.create(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
        yield started
