"""The audit log of the whole server: what a policy keeps of which requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.api.resources import CONFIGMAPS, SECRETS
from orchestrator.api.status import ApiError
from orchestrator.api.wire import Request
from orchestrator.apiserver.audit import Policy, PolicyError
from orchestrator.apiserver.encoding import PROTOBUF
from orchestrator.apiserver.protobuf.encoding import encode
from orchestrator.apiserver.server import LOOPBACK
from tests.whole_server import whole_server

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "userGroups": ["system:masters"], "namespaces": ["kube-system"]},
        {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]},
        {"level": "RequestResponse", "resources": [{"group": "", "resources": ["configmaps"]}],
         "namespaces": ["default"], "omitManagedFields": True},
        {"level": "Request", "users": ["jane"]},
    ],
}  # fmt: skip


def configmap(name: str, namespace: str = "default") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": {}}


async def test_events_follow_the_policy(tmp_path: Path) -> None:
    policy, log = tmp_path / "policy.yaml", tmp_path / "audit/audit.log"
    policy.write_text(yaml.safe_dump(POLICY))
    async with whole_server(tmp_path, audit_policy_file=str(policy), audit_log_path=str(log)) as server:
        await server.admin.create(CONFIGMAPS, configmap("seen"))
        await server.admin.create(CONFIGMAPS, configmap("unseen", "kube-system"))
        secret = {"metadata": {"name": "s", "namespace": "default"}, "stringData": {"password": "hidden-word"}}
        await server.admin.create(SECRETS, secret)
        with pytest.raises(ApiError):
            await server.client("jane").get(SECRETS, "s", "default")
        with pytest.raises(ApiError):
            await server.client("jane").list(CONFIGMAPS, "kube-public")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    mine = [event for event in events if event["userAgent"] in ("sampan", "jane")]

    def of(match: Callable[[Any], bool]) -> Any:
        (found,) = [event for event in mine if match(event)]
        return found

    made = of(lambda event: event.get("objectRef", {}).get("resource") == "configmaps" and event["verb"] == "create")
    assert made["level"] == "RequestResponse"
    assert made["objectRef"] == {"resource": "configmaps", "namespace": "default", "apiVersion": "v1"}
    assert made["requestObject"]["metadata"]["name"] == "seen"
    assert made["responseObject"]["metadata"]["uid"]
    assert "managedFields" not in made["responseObject"]["metadata"]
    assert made["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert "hidden-word" not in log.read_text()
    refused = of(lambda event: event["user"]["username"] == "jane" and event["objectRef"]["resource"] == "secrets")
    assert refused["responseStatus"]["code"] == 403
    assert refused["annotations"]["authorization.k8s.io/decision"] == "forbid"
    listed = of(lambda event: event["user"]["username"] == "jane" and event["verb"] == "list")
    assert (listed["level"], listed["stage"]) == ("Request", "ResponseComplete")


async def test_objects_are_kept_whatever_their_encoding(tmp_path: Path) -> None:
    policy, log = tmp_path / "policy.yaml", tmp_path / "audit/audit.log"
    policy.write_text(yaml.safe_dump(POLICY))
    bodies = {
        PROTOBUF: encode(configmap("binary")),
        "application/yaml": yaml.safe_dump(configmap("text")).encode(),
        "application/json": json.dumps(configmap("json")).encode(),
    }
    path = "/api/v1/namespaces/default/configmaps"
    async with whole_server(tmp_path, audit_policy_file=str(policy), audit_log_path=str(log)) as server:
        for media_type, body in bodies.items():
            headers = {"content-type": media_type, "accept": media_type, "user-agent": "here"}
            for status in (201, 409):
                request = Request("POST", path, [], headers, body, identity=LOOPBACK)
                assert (await server.api.handle(request)).status == status
    events = [json.loads(line) for line in log.read_text().splitlines()]
    made = [event for event in events if event["userAgent"] == "here"]
    names = ["binary", "binary", "text", "text", "json", "json"]
    assert [event["requestObject"]["metadata"]["name"] for event in made] == names
    assert [event["responseObject"]["metadata"].get("name") for event in made[::2]] == names[::2]
    assert {event["responseStatus"].get("reason") for event in made[1::2]} == {"AlreadyExists"}


async def test_answers_carry_their_id(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump({"kind": "Policy", "rules": [{"level": "Metadata"}]}))
    log = tmp_path / "audit.log"
    async with whole_server(tmp_path, audit_policy_file=str(policy), audit_log_path=str(log)) as server:
        from orchestrator.api.wire import Request

        answer = await server.admin.request(Request("GET", "/api/v1/namespaces", headers={"audit-id": "mine"}))
        assert answer.headers["audit-id"] == "mine"
        watch = await server.admin.request(Request("GET", "/api/v1/namespaces", [("watch", "true")]))
        assert not isinstance(watch.body, bytes)
        await asyncio.sleep(0)
    stages = [json.loads(line)["stage"] for line in log.read_text().splitlines() if '"mine"' in line]
    assert stages == ["RequestReceived", "ResponseComplete"]
    assert "ResponseStarted" in log.read_text()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "Other"}, "kind: must be Policy"),
        ({"kind": "Policy"}, "rules: must not be empty"),
        ({"kind": "Policy", "rules": [{"level": "All"}]}, r"rules\[0\].level: 'All': must be one of None"),
        ({"kind": "Policy", "omitStages": ["Later"], "rules": [{"level": "None"}]}, "omitStages"),
    ],
)
def test_wrong_policies(data: Any, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        Policy(data)
