"""`kubectl get componentstatuses`: what is asked at each read."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from orchestrator.api.clock import SystemClock
from orchestrator.api.meta import format_micro_time
from orchestrator.api.resources import COMPONENTSTATUSES, LEASES
from orchestrator.api.status import NotFound
from orchestrator.api.wire import Request
from orchestrator.client.client import Client
from tests.whole_server import whole_server

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


async def listed(client: Client) -> dict[str, dict[str, str]]:
    found = await client.list(COMPONENTSTATUSES)
    return {item["metadata"]["name"]: item["conditions"][0] for item in found.items}


async def leads(client: Client, name: str, ago_s: float) -> None:
    spec = {
        "holderIdentity": "somebody",
        "leaseDurationSeconds": 15,
        "renewTime": format_micro_time(SystemClock().now() - ago_s),
    }
    lease = {"metadata": {"name": name, "namespace": "kube-system"}, "spec": spec}
    await client.create(LEASES, lease)


async def test_components_are_asked_and_leaders_seen_by_their_leases(tmp_path: Path) -> None:
    async with whole_server(tmp_path) as server:
        client = server.api.client
        well = {"type": "Healthy", "status": "True", "message": "ok"}
        assert await listed(client) == {"etcd-0": well}

        await leads(client, "kube-scheduler", ago_s=1)
        await leads(client, "kube-controller-manager", ago_s=3600)
        found = await listed(client)
        assert list(found) == ["controller-manager", "etcd-0", "scheduler"]
        assert found["scheduler"] == well
        assert found["controller-manager"]["status"] == "False"
        assert found["controller-manager"]["error"].startswith("lease kube-system/kube-controller-manager: not renewed")

        components = server.api.core.components
        assert components is not None
        components.checks["scheduler"] = lambda: "it has ended"  # of this process: believed before a lease
        one = await client.get(COMPONENTSTATUSES, "scheduler")
        assert one["conditions"] == [{"type": "Healthy", "status": "False", "error": "it has ended"}]
        with pytest.raises(NotFound):
            await client.get(COMPONENTSTATUSES, "proxy")
        table = await client.request(Request("GET", COMPONENTSTATUSES.path(), [], {"accept": TABLE}))
        assert isinstance(table.body, bytes)
        rows = [row["cells"] for row in orjson.loads(table.body)["rows"]]
        assert rows[1:] == [["etcd-0", "Healthy", "ok", ""], ["scheduler", "Unhealthy", "", "it has ended"]]
