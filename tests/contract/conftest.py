"""What any Kubernetes API server must do, asked over the network of the server that a kubeconfig names.

    pytest tests/contract --kubeconfig FILE       (or CONTRACT_KUBECONFIG=FILE)

By default a server of our own is started. Each test has a namespace of its own, taken away afterwards; the user of the
kubeconfig must be allowed everything. No test leans on a controller, so a bare kube-apiserver will do.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.api.resources import NAMESPACES
from orchestrator.client.client import Client
from tests.exchange import remove
from tests.whole_server import whole_server


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kubeconfig", help="of the API server that the contract suite is to ask")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kubeconfig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    given = request.config.getoption("--kubeconfig", None) or os.environ.get("CONTRACT_KUBECONFIG")
    if given:
        yield Path(given)
        return
    async with whole_server(tmp_path_factory.mktemp("contract")) as server:
        yield server.kubeconfig("admin")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client(kubeconfig: Path) -> AsyncIterator[Client]:
    made = Client.from_kubeconfig(kubeconfig, "contract")
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def namespace(client: Client) -> AsyncIterator[str]:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    await client.create(NAMESPACES, {"metadata": {"name": name}})
    yield name
    await remove(client, f"/api/v1/namespaces/{name}")
