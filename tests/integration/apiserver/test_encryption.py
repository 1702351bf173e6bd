"""A server whose Secrets a key management service guards: what is on its disk, its health, its metrics."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import yaml

from orchestrator.api.resources import SECRETS
from orchestrator.api.status import InternalError
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver.server import LOOPBACK
from tests.kms_plugin import KmsPlugin
from tests.unit.store.test_encryption import configuration
from tests.whole_server import WholeServer, whole_server


async def get(server: WholeServer, path: str) -> Response:
    return await server.api.handle(Request("GET", path, identity=LOOPBACK))


def secret(name: str) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": "default"}, "stringData": {"a": "password"}}


async def test_secrets_are_guarded_by_a_service(tmp_path: Path) -> None:
    kms = {"kms": {"apiVersion": "v2", "name": "plug", "endpoint": f"unix://{tmp_path}/kms.sock"}}
    file = tmp_path / "encryption.yaml"
    file.write_text(yaml.safe_dump(configuration(kms, {"identity": {}})))
    settings = {"encryption_config_file": str(file), "encryption_config_automatic_reload": True}
    with KmsPlugin(tmp_path / "kms.sock") as plugin:
        async with whole_server(tmp_path, **settings) as server:
            await server.admin.create(SECRETS, secret("first"))
            assert (await get(server, "/healthz/kms-providers")).body == b"ok"
            (keeper,) = server.api.core.store.encryption.plugins  # type: ignore[attr-defined]
            keeper._answer.kept_until = 0
            plugin.healthz = "out of order"
            answer = await get(server, "/healthz/kms-providers")
            words = (
                "kms-provider-0: kmsv2 Provider plug is not healthy, error: got unexpected healthz status: out of order"
            )
            assert (answer.status, answer.body) == (500, f"internal server error: {words}\n".encode())
            assert [(await get(server, f"/{one}")).status for one in ("healthz", "readyz", "livez")] == [500, 500, 200]
            assert b"[-]kms-providers failed: reason withheld" in (await get(server, "/readyz")).body  # type: ignore[operator]
            text = (await get(server, "/metrics")).body
            assert isinstance(text, bytes)
            assert b'method_name="/v2.KeyManagementService/Encrypt",provider_name="plug"' in text
            assert b"apiserver_encryption_config_controller_last_config_info{" in text
            keeper._current = None
            with pytest.raises(InternalError, match="Internal error occurred: got unexpected nil transformer"):
                await server.admin.create(SECRETS, secret("second"))
        plugin.healthz = "ok"
        rows = (
            sqlite3.connect(tmp_path / "store.db")
            .execute("SELECT value FROM log WHERE key LIKE 'secrets/%'")
            .fetchall()
        )
        assert rows
        assert all(value.startswith(b"k8s:enc:kms:v2:plug:") for (value,) in rows)
        async with whole_server(tmp_path, **settings) as server:
            found = await server.admin.get(SECRETS, "first", "default")
            assert found["data"] == {"a": "cGFzc3dvcmQ="}
