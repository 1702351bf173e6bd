"""Server-side apply and managed fields: who owns what, conflicts that name the owner, hand-over, removal."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.api.resources import CONFIGMAPS, DEPLOYMENTS
from orchestrator.api.status import Conflict
from orchestrator.client.client import Client
from tests.contract.objects import configmap, deployment

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def apply(client: Client, manager: str, obj: dict[str, Any], force: bool = False) -> dict[str, Any]:
    resource = CONFIGMAPS if obj["kind"] == "ConfigMap" else DEPLOYMENTS
    described = obj["metadata"]
    return await client.patch(
        resource, described["name"], described["namespace"], obj, "apply", field_manager=manager, force=force
    )


def owned(obj: dict[str, Any], manager: str) -> list[tuple[str, Any]]:
    """(operation, fields) of a manager."""
    entries = obj["metadata"].get("managedFields") or ()
    return [(entry["operation"], entry["fieldsV1"]) for entry in entries if entry["manager"] == manager]


async def test_apply_creates_and_is_idempotent(client: Client, namespace: str) -> None:
    made = await apply(client, "one", configmap(namespace, "a", x="1"))
    assert owned(made, "one") == [("Apply", {"f:data": {"f:x": {}}})]
    assert await apply(client, "one", configmap(namespace, "a", x="1")) == made


async def test_what_is_no_longer_applied_goes(client: Client, namespace: str) -> None:
    await apply(client, "one", configmap(namespace, "a", x="1", y="2"))
    found = await apply(client, "one", configmap(namespace, "a", y="2"))
    assert found["data"] == {"y": "2"}


async def test_what_another_manager_owns_stays(client: Client, namespace: str) -> None:
    await apply(client, "one", configmap(namespace, "a", x="1"))
    await apply(client, "two", configmap(namespace, "a", x="1", y="2"))
    found = await apply(client, "one", configmap(namespace, "a"))
    assert found["data"] == {"x": "1", "y": "2"}
    assert owned(found, "two") == [("Apply", {"f:data": {"f:x": {}, "f:y": {}}})]


async def test_a_conflict_names_the_manager_and_force_takes_over(client: Client, namespace: str) -> None:
    await apply(client, "one", configmap(namespace, "a", x="1"))
    with pytest.raises(Conflict) as caught:
        await apply(client, "two", configmap(namespace, "a", x="2"))
    assert str(caught.value) == 'Apply failed with 1 conflict: conflict with "one": .data.x'
    assert [(cause.reason, cause.field) for cause in caught.value.causes] == [("FieldManagerConflict", ".data.x")]
    taken = await apply(client, "two", configmap(namespace, "a", x="2"), force=True)
    assert taken["data"] == {"x": "2"}
    assert owned(taken, "one") == [] or owned(taken, "one")[0][1].get("f:data", {}).get("f:x") is None


async def test_an_update_takes_what_it_changes(client: Client, namespace: str) -> None:
    made = await apply(client, "one", configmap(namespace, "a", x="1", y="2"))
    changed = await client.update(CONFIGMAPS, made | {"data": {"x": "3", "y": "2"}}, field_manager="two")
    assert owned(changed, "two") == [("Update", {"f:data": {"f:x": {}}})]
    assert "f:x" not in owned(changed, "one")[0][1]["f:data"]


async def test_items_of_a_list_map_have_owners(client: Client, namespace: str) -> None:
    await apply(client, "one", deployment(namespace))
    mine = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}]}]}}},
    }
    found = await apply(client, "two", mine)
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["env"]) == ("i:1", [{"name": "A", "value": "1"}])
    found = await apply(client, "two", {**mine, "spec": {}})
    assert "env" not in found["spec"]["template"]["spec"]["containers"][0]


async def test_managers_of_status_are_their_own(client: Client, namespace: str) -> None:
    made = await client.create(DEPLOYMENTS, deployment(namespace), field_manager="one")
    shown = await client.update(
        DEPLOYMENTS, made | {"status": {"replicas": 1}}, subresource="status", field_manager="one"
    )
    entries = {(entry["manager"], entry.get("subresource", "")) for entry in shown["metadata"]["managedFields"]}
    assert entries == {("one", ""), ("one", "status")}


async def test_an_empty_record_clears_the_managers(client: Client, namespace: str) -> None:
    await apply(client, "one", configmap(namespace, "a", x="1"))
    cleared = await client.patch(CONFIGMAPS, "a", namespace, {"metadata": {"managedFields": [{}]}})
    assert "managedFields" not in cleared["metadata"]
