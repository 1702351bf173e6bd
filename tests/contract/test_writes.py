"""Writes: optimistic concurrency, dry run, generated names, field validation, patches, status, and errors as Status."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.api.resources import CONFIGMAPS, DEPLOYMENTS
from orchestrator.api.status import AlreadyExists, BadRequest, Conflict, Invalid, NotFound
from orchestrator.client.client import Client
from tests.contract.objects import call, configmap, deployment

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_stale_update_conflicts(client: Client, namespace: str) -> None:
    made = await client.create(CONFIGMAPS, configmap(namespace, "a"))
    await client.update(CONFIGMAPS, made | {"data": {"x": "1"}})
    with pytest.raises(Conflict, match="the object has been modified"):
        await client.update(CONFIGMAPS, made | {"data": {"x": "2"}})
    assert (await client.get(CONFIGMAPS, "a", namespace))["data"] == {"x": "1"}


async def test_of_racing_updates_one_wins(client: Client, namespace: str) -> None:
    made = await client.create(CONFIGMAPS, configmap(namespace, "a"))
    tries = (client.update(CONFIGMAPS, made | {"data": {"x": str(number)}}) for number in range(8))
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 7 + ["dict"]


async def test_racing_patches_all_land(client: Client, namespace: str) -> None:
    await client.create(CONFIGMAPS, configmap(namespace, "a"))
    patches = ({"data": {f"k{number}": "v"}} for number in range(8))
    await asyncio.gather(*(client.patch(CONFIGMAPS, "a", namespace, patch) for patch in patches))
    assert len((await client.get(CONFIGMAPS, "a", namespace))["data"]) == 8


async def test_a_dry_run_leaves_no_trace(client: Client, namespace: str) -> None:
    collection = CONFIGMAPS.path(namespace)
    code, told = await call(client, "POST", f"{collection}?dryRun=All", configmap(namespace, "a"))
    assert (code, told["metadata"]["name"], "uid" in told["metadata"]) == (201, "a", True)
    with pytest.raises(NotFound):
        await client.get(CONFIGMAPS, "a", namespace)
    made = await client.create(CONFIGMAPS, configmap(namespace, "a"))
    code, told = await call(client, "PUT", f"{collection}/a?dryRun=All", made | {"data": {"x": "1"}})
    assert (code, told["data"]) == (200, {"x": "1"})
    assert (await call(client, "DELETE", f"{collection}/a?dryRun=All"))[0] == 200
    assert await client.get(CONFIGMAPS, "a", namespace) == made
    assert (await call(client, "POST", f"{collection}?dryRun=some", configmap(namespace, "b")))[0] == 422


async def test_generated_names(client: Client, namespace: str) -> None:
    body: dict[str, Any] = {"metadata": {"generateName": "c-", "namespace": namespace}}
    made = [(await client.create(CONFIGMAPS, body))["metadata"]["name"] for _ in range(3)]
    assert len(set(made)) == 3
    assert all(name.startswith("c-") and len(name) == 7 for name in made)


async def test_what_exists_already(client: Client, namespace: str) -> None:
    await client.create(CONFIGMAPS, configmap(namespace, "a"))
    with pytest.raises(AlreadyExists) as caught:
        await client.create(CONFIGMAPS, configmap(namespace, "a"))
    assert str(caught.value) == 'configmaps "a" already exists'
    assert caught.value.details == {"name": "a", "kind": "configmaps"}


async def test_what_is_not_there(client: Client, namespace: str) -> None:
    code, answer = await call(client, "GET", CONFIGMAPS.path(namespace, "none"))
    assert (code, answer) == (
        404,
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": 'configmaps "none" not found',
            "reason": "NotFound",
            "details": {"name": "none", "kind": "configmaps"},
            "code": 404,
        },
    )


async def test_every_fault_is_a_cause_with_its_field(client: Client, namespace: str) -> None:
    body = deployment(namespace, replicas=-1)
    body["spec"]["template"]["spec"]["containers"][0]["image"] = ""
    body["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    with pytest.raises(Invalid) as caught:
        await client.create(DEPLOYMENTS, body)
    assert {(cause.field, cause.reason) for cause in caught.value.causes} == {
        ("spec.replicas", "FieldValueInvalid"),
        ("spec.template.spec.containers[0].image", "FieldValueRequired"),
        ("spec.template.metadata.labels", "FieldValueInvalid"),
    }


async def test_an_immutable_field(client: Client, namespace: str) -> None:
    made = await client.create(DEPLOYMENTS, deployment(namespace))
    made["spec"]["selector"]["matchLabels"] = {"app": "other"}
    made["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    with pytest.raises(Invalid, match="field is immutable"):
        await client.update(DEPLOYMENTS, made)


@pytest.mark.parametrize(("rule", "code"), [("Strict", 400), ("Warn", 201), ("Ignore", 201)])
async def test_unknown_fields(client: Client, namespace: str, rule: str, code: int) -> None:
    body = configmap(namespace, "a") | {"unknown": 1}
    found, answer = await call(client, "POST", f"{CONFIGMAPS.path(namespace)}?fieldValidation={rule}", body)
    assert found == code
    assert "unknown" not in answer
    assert code == 201 or 'unknown field "unknown"' in answer["message"]


async def test_a_value_of_the_wrong_type(client: Client, namespace: str) -> None:
    with pytest.raises(BadRequest, match=r"number into Go struct field ConfigMap\.data of type string"):
        await client.create(CONFIGMAPS, configmap(namespace, "a") | {"data": {"x": 1}})


@pytest.mark.parametrize(
    ("kind", "patch", "wanted"),
    [
        ("merge", {"data": {"a": None, "c": "3"}}, {"b": "2", "c": "3"}),
        ("strategic", {"data": {"$patch": "replace", "c": "3"}}, {"c": "3"}),
        ("json", [{"op": "move", "from": "/data/a", "path": "/data/c"}], {"b": "2", "c": "1"}),
    ],
)
async def test_patches(client: Client, namespace: str, kind: Any, patch: Any, wanted: dict[str, str]) -> None:
    await client.create(CONFIGMAPS, configmap(namespace, "a", a="1", b="2"))
    assert (await client.patch(CONFIGMAPS, "a", namespace, patch, kind))["data"] == wanted


async def test_lists_of_a_strategic_patch_merge_by_key(client: Client, namespace: str) -> None:
    await client.create(DEPLOYMENTS, deployment(namespace))
    containers = [{"name": "c", "env": [{"name": "A", "value": "1"}]}, {"name": "d", "image": "j:1"}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    found = await client.patch(DEPLOYMENTS, "web", namespace, patch, "strategic")
    assert {(one["name"], one["image"]) for one in found["spec"]["template"]["spec"]["containers"]} == {
        ("c", "i:1"),
        ("d", "j:1"),
    }


async def test_a_failed_test_of_a_json_patch(client: Client, namespace: str) -> None:
    await client.create(CONFIGMAPS, configmap(namespace, "a", x="1"))
    with pytest.raises(Invalid):
        await client.patch(CONFIGMAPS, "a", namespace, [{"op": "test", "path": "/data/x", "value": "2"}], "json")


async def test_status_has_its_own_door_and_generation_follows_the_spec(client: Client, namespace: str) -> None:
    made = await client.create(DEPLOYMENTS, deployment(namespace) | {"status": {"replicas": 7}})
    assert (made["metadata"]["generation"], made["status"]) == (1, {})
    told = {**made, "spec": {**made["spec"], "replicas": 9}, "status": {"observedGeneration": 1, "replicas": 1}}
    shown = await client.update(DEPLOYMENTS, told, subresource="status")
    assert (shown["spec"]["replicas"], shown["status"]["replicas"], shown["metadata"]["generation"]) == (1, 1, 1)
    changed = await client.update(DEPLOYMENTS, {**shown, "spec": {**shown["spec"], "replicas": 3}, "status": {}})
    assert (changed["spec"]["replicas"], changed["status"]["replicas"], changed["metadata"]["generation"]) == (3, 1, 2)


async def test_scale(client: Client, namespace: str) -> None:
    await client.create(DEPLOYMENTS, deployment(namespace))
    scale = await client.get(DEPLOYMENTS, "web", namespace, subresource="scale")
    assert (scale["kind"], scale["apiVersion"], scale["spec"]) == ("Scale", "autoscaling/v1", {"replicas": 1})
    scale = await client.update(DEPLOYMENTS, {**scale, "spec": {"replicas": 4}}, subresource="scale")
    assert scale["spec"] == {"replicas": 4}
    assert (await client.get(DEPLOYMENTS, "web", namespace))["spec"]["replicas"] == 4


@pytest.mark.parametrize(
    ("method", "path", "code", "reason"),
    [
        ("POST", "/api/v1/namespaces/{}/configmaps/a", 405, "MethodNotAllowed"),
        ("PATCH", "/api/v1/namespaces/{}/configmaps/a", 415, "UnsupportedMediaType"),
        ("PUT", "/api/v1/namespaces/{}/configmaps/a", 400, "BadRequest"),
    ],
)
async def test_what_cannot_be_asked(
    client: Client, namespace: str, method: str, path: str, code: int, reason: str
) -> None:
    body = None if method == "GET" else configmap(namespace, "b")
    found, answer = await call(client, method, path.format(namespace), body)
    assert (found, answer["reason"], answer["code"]) == (code, reason, code)
