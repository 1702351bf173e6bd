"""DELETE: preconditions, finalizers, propagation, grace, collections."""

from __future__ import annotations

import pytest

from orchestrator.api.resources import CONFIGMAPS, DEPLOYMENTS, PODS
from orchestrator.api.status import BadRequest, Conflict, NotFound
from orchestrator.client.client import Client
from tests.contract.objects import call, configmap, deployment, names, pod, with_account

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_deletion_answers_with_a_status(client: Client, namespace: str) -> None:
    made = await client.create(CONFIGMAPS, configmap(namespace, "a"))
    told = await client.delete(CONFIGMAPS, "a", namespace)
    assert (told["kind"], told["status"]) == ("Status", "Success")
    assert told["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    with pytest.raises(NotFound):
        await client.delete(CONFIGMAPS, "a", namespace)


async def test_preconditions(client: Client, namespace: str) -> None:
    made = await client.create(CONFIGMAPS, configmap(namespace, "a"))
    for wrong in ({"uid": "other"}, {"resource_version": "1"}):
        with pytest.raises(Conflict, match="does not match the"):
            await client.delete(CONFIGMAPS, "a", namespace, **wrong)  # type: ignore[arg-type]
    described = made["metadata"]
    right = {"uid": described["uid"], "resource_version": described["resourceVersion"]}
    await client.delete(CONFIGMAPS, "a", namespace, **right)


async def test_finalizers_hold_an_object_until_the_last_is_gone(client: Client, namespace: str) -> None:
    body = configmap(namespace, "a")
    body["metadata"]["finalizers"] = ["example.com/one", "example.com/two"]
    await client.create(CONFIGMAPS, body)
    told = await client.delete(CONFIGMAPS, "a", namespace)
    assert told["metadata"]["deletionTimestamp"]
    again = await client.delete(CONFIGMAPS, "a", namespace)
    assert again["metadata"]["deletionTimestamp"] == told["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": ["example.com/one", "example.com/two", "example.com/three"]}}
    code, answer = await call(
        client, "PATCH", CONFIGMAPS.path(namespace, "a"), more, content_type="application/merge-patch+json"
    )
    assert (code, answer["reason"]) == (422, "Invalid")
    await client.patch(CONFIGMAPS, "a", namespace, {"metadata": {"finalizers": ["example.com/two"]}})
    assert (await client.get(CONFIGMAPS, "a", namespace))["metadata"]["finalizers"] == ["example.com/two"]
    await client.patch(CONFIGMAPS, "a", namespace, {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await client.get(CONFIGMAPS, "a", namespace)


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
async def test_propagation_waits_for_the_collector(client: Client, namespace: str, policy: str, finalizer: str) -> None:
    """The finalizer is the order to the garbage collector; another one keeps the object for this test to see."""
    body = deployment(namespace)
    body["metadata"]["finalizers"] = ["example.com/held"]
    await client.create(DEPLOYMENTS, body)
    await client.delete(DEPLOYMENTS, "web", namespace, propagation=policy)  # type: ignore[arg-type]
    events = [
        event.object
        async for event in client.watch(DEPLOYMENTS, namespace, resource_version="", timeout_s=1)
        if event.object["metadata"].get("deletionTimestamp")
    ]
    assert events
    ordered = {name for obj in events for name in obj["metadata"].get("finalizers", [])}
    assert "example.com/held" in ordered
    assert finalizer in ordered or policy == "Orphan"  # a collector may have been here before us
    await client.patch(DEPLOYMENTS, "web", namespace, {"metadata": {"finalizers": None}})


async def test_background_deletion_is_at_once(client: Client, namespace: str) -> None:
    await client.create(DEPLOYMENTS, deployment(namespace))
    await client.delete(DEPLOYMENTS, "web", namespace, propagation="Background")
    with pytest.raises(NotFound):
        await client.get(DEPLOYMENTS, "web", namespace)


async def test_bad_propagation(client: Client, namespace: str) -> None:
    await client.create(CONFIGMAPS, configmap(namespace, "a"))
    path = CONFIGMAPS.path(namespace, "a")
    assert (await call(client, "DELETE", f"{path}?propagationPolicy=x"))[0] == 422
    both = {"kind": "DeleteOptions", "apiVersion": "v1", "orphanDependents": True, "propagationPolicy": "Orphan"}
    assert (await call(client, "DELETE", path, both))[0] == 422
    assert await client.get(CONFIGMAPS, "a", namespace)


async def test_a_running_pod_is_given_its_grace(client: Client, namespace: str) -> None:
    await with_account(client, namespace)
    await client.create(PODS, pod(namespace, "a", nodeName="none", terminationGracePeriodSeconds=30))
    told = await client.delete(PODS, "a", namespace)
    assert told["metadata"]["deletionGracePeriodSeconds"] == 30
    shorter = await client.delete(PODS, "a", namespace, grace_period_s=5)
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    await client.delete(PODS, "a", namespace, grace_period_s=0)
    with pytest.raises(NotFound):
        await client.get(PODS, "a", namespace)


async def test_a_pod_without_node_goes_at_once(client: Client, namespace: str) -> None:
    await with_account(client, namespace)
    await client.create(PODS, pod(namespace, "a", schedulingGates=[{"name": "example.com/held"}]))
    await client.delete(PODS, "a", namespace)
    with pytest.raises(NotFound):
        await client.get(PODS, "a", namespace)


async def test_a_collection(client: Client, namespace: str) -> None:
    for name, labels in (("a", {"on": ""}), ("b", {}), ("c", {"on": ""})):
        await client.create(CONFIGMAPS, configmap(namespace, name, labels=labels))
    await client.delete_collection(CONFIGMAPS, namespace, label_selector="on")
    assert names((await client.list(CONFIGMAPS, namespace)).items) == ["b"]


async def test_a_body_that_is_no_delete_options(client: Client, namespace: str) -> None:
    await client.create(CONFIGMAPS, configmap(namespace, "a"))
    code, answer = await call(client, "DELETE", CONFIGMAPS.path(namespace, "a"), configmap(namespace, "a"))
    assert (code, answer["reason"]) == (400, BadRequest.reason)
