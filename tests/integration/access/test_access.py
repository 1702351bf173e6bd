"""The access chain as clients meet it: identities, roles, admission and the server's own subresources."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from orchestrator.api import conditions
from orchestrator.api.meta import Object
from orchestrator.api.resources import (
    CLUSTERROLES,
    LIMITRANGES,
    NODES,
    PODDISRUPTIONBUDGETS,
    PODS,
    PRIORITYCLASSES,
    RESOURCEQUOTAS,
    ROLEBINDINGS,
    SECRETS,
    SELFSUBJECTRULESREVIEWS,
    SERVICEACCOUNTS,
    SERVICES,
    SUBJECTACCESSREVIEWS,
)
from orchestrator.api.status import Conflict, Forbidden, Invalid
from orchestrator.api.wire import Request
from orchestrator.apiserver.authn.chain import KEPT_S
from orchestrator.apiserver.authz.reconcile import reconcile
from tests.integration.access.conftest import Cluster

MASTERS = "system:masters"


def pod(name: str = "web", **spec: object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "sampan.local/pause:1"}], **spec},
    }


def service(name: str, **spec: object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}, **spec},
    }


async def test_a_cluster_starts_with_its_roles_and_classes(cluster: Cluster) -> None:
    roles = await cluster.root.list(CLUSTERROLES)
    names = {role["metadata"]["name"] for role in roles.items}
    assert {"cluster-admin", "admin", "edit", "view", "system:node", "sampan:node-agent"} <= names
    classes = await cluster.root.list(PRIORITYCLASSES)
    assert len(classes.items) == 2


async def test_a_stranger_is_refused_and_a_binding_lets_in(cluster: Cluster) -> None:
    ann = cluster.client("ann", "dev")
    with pytest.raises(Forbidden) as refused:
        await ann.list(PODS, "default")
    assert str(refused.value) == (
        'pods is forbidden: User "ann" cannot list resource "pods" in API group "" in the namespace "default"'
    )
    role_binding = {
        "metadata": {"name": "dev", "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "Group", "name": "dev", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    with pytest.raises(Forbidden):
        await ann.create(ROLEBINDINGS, role_binding)
    await cluster.root.create(ROLEBINDINGS, role_binding)
    assert (await ann.list(PODS, "default")).items == []
    with pytest.raises(Forbidden):
        await ann.list(SECRETS, "default")
    review = {"spec": {"namespace": "default"}}
    answer = await ann.create(SELFSUBJECTRULESREVIEWS, review)
    assert any("pods" in rule["resources"] for rule in answer["status"]["resourceRules"])
    asked = {"spec": {"user": "ann", "groups": ["dev"], "resourceAttributes": {"verb": "get", "resource": "pods"}}}
    review = await cluster.root.create(SUBJECTACCESSREVIEWS, asked)
    assert review["status"]["allowed"] is False
    with pytest.raises(Invalid):
        await cluster.root.create(SUBJECTACCESSREVIEWS, {"spec": {"user": "ann"}})


async def test_from_a_pod_to_its_token(cluster: Cluster) -> None:
    made = await cluster.root.create(PODS, pod())
    assert made["spec"]["serviceAccountName"] == "default"
    assert made["spec"]["priority"] == 0
    assert len(made["spec"]["tolerations"]) == 2
    kubelet = cluster.client("system:node:n1", "system:nodes")
    node = await kubelet.create(NODES, {"metadata": {"name": "n1"}})
    assert node["spec"]["taints"][0]["key"] == "node.kubernetes.io/not-ready"
    with pytest.raises(Forbidden):
        await kubelet.create(NODES, {"metadata": {"name": "n2"}})
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": made["metadata"]["uid"]}
    request: Object = {"spec": {"audiences": [], "boundObjectRef": reference, "expirationSeconds": 3607}}
    with pytest.raises(Forbidden):
        await kubelet.create(SERVICEACCOUNTS, request, "default", subresource="token", name="default")
    scheduler = cluster.client("system:kube-scheduler")
    binding = {"metadata": {"name": "web"}, "target": {"kind": "Node", "name": "n1"}}
    await scheduler.create(PODS, binding, "default", subresource="binding", name="web")
    with pytest.raises(Conflict):
        await scheduler.create(PODS, binding, "default", subresource="binding", name="web")
    bound = await cluster.root.get(PODS, "web", "default")
    assert bound["spec"]["nodeName"] == "n1" and conditions.is_true(bound, "PodScheduled")
    answer = await kubelet.create(SERVICEACCOUNTS, request, "default", subresource="token", name="default")
    token = answer["status"]["token"]
    review = Request(
        "POST",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        body=b'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}',
    )
    response = await cluster.server.handle(review)
    assert isinstance(response.body, bytes) and response.status == 201
    assert orjson.loads(response.body)["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"
    await cluster.root.delete(PODS, "web", "default", grace_period_s=0)
    async with asyncio.timeout(KEPT_S + 2):  # an identity is believed a little longer than it is true
        while (await cluster.server.handle(review)).status != 401:
            await asyncio.sleep(0.02)


async def test_services_get_different_addresses_under_concurrency(cluster: Cluster) -> None:
    made = await asyncio.gather(
        *(
            cluster.root.create(SERVICES, service(f"s{number}", type="NodePort", ipFamilyPolicy="PreferDualStack"))
            for number in range(50)
        )
    )
    addresses = [address for one in made for address in one["spec"]["clusterIPs"]]
    ports = [one["spec"]["ports"][0]["nodePort"] for one in made]
    assert len(set(addresses)) == 100 and len(set(ports)) == 50
    with pytest.raises(Invalid, match="provided IP is already allocated"):
        await cluster.root.create(SERVICES, service("again", clusterIP=addresses[0]))
    await cluster.root.delete(SERVICES, "s0", "default")
    again = await cluster.root.create(SERVICES, service("again", clusterIP=addresses[0]))
    again["spec"]["ports"][0]["name"] = "http"
    assert (await cluster.root.update(SERVICES, again))["spec"]["clusterIP"] == addresses[0]


async def test_a_budget_holds_when_two_evict_at_once(cluster: Cluster) -> None:
    budget = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    }
    made = await cluster.root.create(PODDISRUPTIONBUDGETS, budget)
    made["status"] = {
        "disruptionsAllowed": 1,
        "currentHealthy": 2,
        "desiredHealthy": 1,
        "expectedPods": 2,
        "observedGeneration": 1,
    }
    await cluster.root.update(PODDISRUPTIONBUDGETS, made, subresource="status")
    for name in ("a", "b"):
        running = await cluster.root.create(PODS, pod(name))
        running["status"] |= {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await cluster.root.update(PODS, running, subresource="status")

    async def evict(name: str) -> int:
        request = Request(
            "POST",
            f"/api/v1/namespaces/default/pods/{name}/eviction",
            headers={"content-type": "application/json"},
            body=b'{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"%s"}}' % name.encode(),
        )
        response = await cluster.client("ops", MASTERS).request(request)
        return response.status

    assert sorted(await asyncio.gather(evict("a"), evict("b"))) == [201, 429]
    survivors = await cluster.root.list(PODS, "default")
    assert len(survivors.items) == 1 or sum("deletionTimestamp" in one["metadata"] for one in survivors.items) == 1


async def test_a_quota_holds_when_many_are_created_at_once(cluster: Cluster) -> None:
    quota = {"metadata": {"name": "few", "namespace": "default"}, "spec": {"hard": {"pods": "5", "count/secrets": "1"}}}
    await cluster.root.create(RESOURCEQUOTAS, quota)
    results = await asyncio.gather(
        *(cluster.root.create(PODS, pod(f"p{number}")) for number in range(20)), return_exceptions=True
    )
    refused = [one for one in results if isinstance(one, Forbidden)]
    assert len(refused) == 15
    assert str(refused[0]).endswith(
        "is forbidden: exceeded quota: few, requested: pods=1, used: pods=5, limited: pods=5"
    )
    secret = {"metadata": {"name": "s", "namespace": "default"}}
    await cluster.root.create(SECRETS, secret)
    with pytest.raises(Forbidden, match="exceeded quota"):
        await cluster.root.create(SECRETS, {"metadata": {"name": "t", "namespace": "default"}})
    await cluster.root.delete(PODS, "p0", "default", grace_period_s=0)
    await cluster.root.create(PODS, pod("again"))


async def test_the_status_of_a_quota_tells_what_was_admitted(cluster: Cluster) -> None:
    """kube-controller-manager counts again only when something goes, or every five minutes."""
    hard = {"pods": "30", "requests.memory": "10Gi", "requests.cpu": "10"}
    quota = {"metadata": {"name": "few", "namespace": "default"}, "spec": {"hard": hard}}
    await cluster.root.create(RESOURCEQUOTAS, quota)

    async def used() -> dict[str, str]:
        found = await cluster.root.get(RESOURCEQUOTAS, "few", "default")
        return dict((found.get("status") or {}).get("used") or {})

    async def becomes(wanted: dict[str, str]) -> None:
        async with asyncio.timeout(30):
            while await used() != wanted:
                await asyncio.sleep(0.02)

    def asking(name: str) -> Object:
        made = pod(name)
        made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "50m", "memory": "64Mi"}}
        return made

    await asyncio.gather(*(cluster.root.create(PODS, asking(f"p{number}")) for number in range(20)))
    await becomes({"pods": "20", "requests.cpu": "1", "requests.memory": "1280Mi"})
    # Another counted meanwhile, from what it knew: the next sum is the whole again.
    found = await cluster.root.get(RESOURCEQUOTAS, "few", "default")
    stale = {"hard": hard, "used": {"pods": "3"}}
    await cluster.root.update(RESOURCEQUOTAS, {**found, "status": stale}, subresource="status")
    await cluster.root.create(PODS, asking("last"))
    await becomes({"pods": "21", "requests.cpu": "1050m", "requests.memory": "1344Mi"})


async def test_limits_of_a_namespace(cluster: Cluster) -> None:
    item = {"type": "Container", "max": {"memory": "1Gi"}, "defaultRequest": {"memory": "64Mi"}}
    limit_range = {"metadata": {"name": "l", "namespace": "default"}, "spec": {"limits": [item]}}
    await cluster.root.create(LIMITRANGES, limit_range)
    made = await cluster.root.create(PODS, pod())
    assert made["spec"]["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}, "requests": {"memory": "64Mi"}}
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: memory request for container c; memory limit for container c"
    )
    greedy = [{"name": "c", "image": "i", "resources": {"limits": {"memory": "2Gi"}}}]
    with pytest.raises(Forbidden) as refused:
        await cluster.root.create(PODS, pod("greedy", containers=greedy))
    assert str(refused.value) == (
        'pods "greedy" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi'
    )


async def test_health_is_open_and_the_rest_is_not(cluster: Cluster) -> None:
    response = await cluster.server.handle(Request("GET", "/api/v1/pods"))
    assert response.status == 401
    assert (await cluster.server.handle(Request("GET", "/healthz"))).status != 401


async def test_a_second_start_writes_nothing(cluster: Cluster) -> None:
    before = await cluster.server.core.store.latest_revision()
    await reconcile(cluster.root, cluster.server.lookup)
    assert await cluster.server.core.store.latest_revision() == before
