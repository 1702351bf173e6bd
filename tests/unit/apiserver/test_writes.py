"""Create, update, patch and apply over the whole server: what is stored, what is refused, and in which words."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from orchestrator.api.clock import FixedClock
from tests.apiserver_fixture import serving
from tests.unit.apiserver.rest import CONFIGMAPS, PODS, call, configmap, pod, send

MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def deployment(name: str, replicas: int = 1) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


async def test_create_then_get() -> None:
    async with serving(clock=FixedClock()) as served:
        status, made = await call(served, "POST", CONFIGMAPS, configmap("a", x="1"))
        assert status == 201
        assert made["metadata"]["resourceVersion"] == "2"
        assert made["metadata"]["creationTimestamp"] == "2023-11-14T22:13:20Z"
        assert len(made["metadata"]["uid"]) == 36
        assert await call(served, "GET", f"{CONFIGMAPS}/a") == (200, made)
        status, again = await call(served, "POST", CONFIGMAPS, configmap("a"))
        assert (status, again["reason"], again["message"]) == (409, "AlreadyExists", 'configmaps "a" already exists')
        assert again["details"] == {"name": "a", "kind": "configmaps"}


async def test_a_put_creates_what_may_be_created_so() -> None:
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {}}
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/a"
    async with serving() as served:
        status, made = await call(served, "PUT", path, lease)
        assert (status, made["metadata"]["name"]) == (201, "a")
        assert (await call(served, "PUT", path, made))[0] == 200
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}}
        assert (await call(served, "PUT", "/apis/rbac.authorization.k8s.io/v1/clusterroles/r", role))[0] == 201


async def test_generated_names_are_tried_again() -> None:
    async with serving() as served:
        names = set()
        for _ in range(20):
            _, made = await call(served, "POST", CONFIGMAPS, {"metadata": {"generateName": "g-"}})
            names.add(made["metadata"]["name"])
        assert len(names) == 20
        assert all(len(name) == 7 and set(name[2:]) <= set("bcdfghjklmnpqrstvwxz2456789") for name in names)


REFUSED = [
    pytest.param("POST", CONFIGMAPS, configmap("A_b"), 422, "Invalid", id="a-bad-name"),
    pytest.param("POST", CONFIGMAPS, {"data": {}}, 422, "Invalid", id="no-name"),
    pytest.param("POST", CONFIGMAPS, {"metadata": {"name": "a", "namespace": "b"}}, 400, "BadRequest", id="another-ns"),
    pytest.param("POST", CONFIGMAPS, {"metadata": {"name": "a"}, "data": {"x": 1}}, 400, "BadRequest", id="wrong-type"),
    pytest.param("POST", CONFIGMAPS, b"{", 400, "BadRequest", id="no-json"),
    pytest.param("POST", CONFIGMAPS, b"[]", 400, "BadRequest", id="no-object"),
    pytest.param("POST", CONFIGMAPS, pod("p"), 400, "BadRequest", id="another-kind"),
    pytest.param("POST", f"{CONFIGMAPS}/a", configmap("a"), 405, "MethodNotAllowed", id="post-to-a-name"),
    pytest.param("POST", "/api/v1/configmaps", configmap("a"), 405, "MethodNotAllowed", id="post-without-namespace"),
    pytest.param("PUT", f"{CONFIGMAPS}/none", configmap("none"), 404, "NotFound", id="update-of-nothing"),
    pytest.param("PUT", f"{CONFIGMAPS}/b", configmap("a"), 400, "BadRequest", id="another-name"),
    pytest.param("GET", f"{CONFIGMAPS}/none", None, 404, "NotFound", id="get-of-nothing"),
    pytest.param("GET", "/api/v1/namespaces/default/foos", None, 404, "NotFound", id="no-such-resource"),
    pytest.param("GET", f"{CONFIGMAPS}/a/status", None, 404, "NotFound", id="no-such-subresource"),
    pytest.param("POST", f"{CONFIGMAPS}?dryRun=Some", configmap("a"), 422, "Invalid", id="half-a-dry-run"),
    pytest.param("POST", f"{CONFIGMAPS}?fieldValidation=No", configmap("a"), 422, "Invalid", id="unknown-validation"),
    pytest.param("POST", CONFIGMAPS, b"x" * (3 << 20) + b"yz", 413, "RequestEntityTooLarge", id="too-large"),
]


@pytest.mark.parametrize(("method", "url", "body", "code", "reason"), REFUSED)
async def test_what_is_refused(method: str, url: str, body: Any, code: int, reason: str) -> None:
    async with serving() as served:
        status, answer = await call(served, method, url, body)
        assert (status, answer["code"], answer["reason"], answer["kind"]) == (code, code, reason, "Status")
        assert served.store.revision == 1


async def test_an_unknown_field_is_refused_warned_of_or_ignored() -> None:
    async with serving() as served:
        obj = configmap("a") | {"spec": {}}
        status, answer = await call(served, "POST", f"{CONFIGMAPS}?fieldValidation=Strict", obj)
        assert (status, answer["reason"]) == (400, "BadRequest")
        assert 'strict decoding error: unknown field "spec"' in answer["message"]
        warned = await send(served, "POST", CONFIGMAPS, obj)
        assert (warned.status, warned.headers["warning"]) == (201, '299 - "unknown field \\"spec\\""')
        ignored = await send(served, "POST", f"{CONFIGMAPS}?fieldValidation=Ignore", configmap("b") | {"spec": {}})
        assert "warning" not in ignored.headers
        assert b"spec" not in ignored.body


async def test_update_is_optimistic() -> None:
    async with serving() as served:
        _, made = await call(served, "POST", CONFIGMAPS, configmap("a", x="1"))
        made["data"]["x"] = "2"
        status, updated = await call(served, "PUT", f"{CONFIGMAPS}/a", made)
        assert (status, updated["metadata"]["resourceVersion"]) == (200, "3")
        status, answer = await call(served, "PUT", f"{CONFIGMAPS}/a", made)
        assert (status, answer["reason"]) == (409, "Conflict")
        assert answer["message"] == (
            'Operation cannot be fulfilled on configmaps "a": the object has been modified; '
            "please apply your changes to the latest version and try again"
        )
        status, _ = await call(served, "PUT", f"{CONFIGMAPS}/a", configmap("a", x="3"))  # says no revision: wins
        assert status == 200


async def test_an_update_keeps_identity_and_refuses_another() -> None:
    async with serving() as served:
        _, made = await call(served, "POST", CONFIGMAPS, configmap("a"))
        _, updated = await call(served, "PUT", f"{CONFIGMAPS}/a", configmap("a", x="1"))
        for field in ("uid", "creationTimestamp"):
            assert updated["metadata"][field] == made["metadata"][field]
        body = configmap("a")
        body["metadata"]["uid"] = "other"
        status, answer = await call(served, "PUT", f"{CONFIGMAPS}/a", body)
        assert (status, answer["reason"]) == (409, "Conflict")
        assert "Precondition failed: UID in precondition: other" in answer["message"]


async def test_a_write_that_changes_nothing_moves_nothing() -> None:
    clock = FixedClock()
    async with serving(clock=clock) as served:
        _, made = await call(served, "POST", DEPLOYMENTS, deployment("web"), user_agent="kubectl/1")
        clock.advance(3600)
        revision = served.store.revision
        for method, url, body, kind in (
            ("PUT", f"{DEPLOYMENTS}/web", made, "application/json"),
            ("PUT", f"{DEPLOYMENTS}/web", deployment("web"), "application/json"),
            ("PATCH", f"{DEPLOYMENTS}/web", {"spec": {"replicas": 1}}, MERGE),
            ("PATCH", f"{DEPLOYMENTS}/web", {}, STRATEGIC),
        ):
            status, answer = await call(served, method, url, body, content_type=kind, user_agent="kubectl/1")
            assert (status, answer) == (200, made)
        assert served.store.revision == revision


async def test_generation_follows_the_spec_and_status_is_its_own_door() -> None:
    async with serving() as served:
        _, made = await call(served, "POST", DEPLOYMENTS, deployment("web") | {"status": {"replicas": 9}})
        assert made["metadata"]["generation"] == 1
        assert made["status"] == {}
        made["spec"]["replicas"] = 2
        made["status"] = {"replicas": 7}
        _, updated = await call(served, "PUT", f"{DEPLOYMENTS}/web", made)
        assert (updated["metadata"]["generation"], updated["status"]) == (2, {})
        updated["spec"]["replicas"] = 5
        updated["status"] = {"replicas": 7}
        _, reported = await call(served, "PUT", f"{DEPLOYMENTS}/web/status", updated)
        assert (reported["spec"]["replicas"], reported["status"]) == (2, {"replicas": 7})
        assert reported["metadata"]["generation"] == 2


PATCHES = [
    pytest.param(MERGE, {"data": {"x": None, "y": "2"}}, {"y": "2"}, id="merge"),
    pytest.param(JSON_PATCH, [{"op": "replace", "path": "/data/x", "value": "9"}], {"x": "9"}, id="json"),
    pytest.param(STRATEGIC, {"data": {"$patch": "replace", "z": "1"}}, {"z": "1"}, id="strategic"),
]


@pytest.mark.parametrize(("kind", "patch", "data"), PATCHES)
async def test_patch(kind: str, patch: Any, data: dict[str, str]) -> None:
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("a", x="1"))
        status, answer = await call(served, "PATCH", f"{CONFIGMAPS}/a", patch, content_type=kind)
        assert (status, answer["data"]) == (200, data)
        status, answer = await call(served, "PATCH", f"{CONFIGMAPS}/a", patch, content_type="text/plain")
        assert (status, answer["reason"]) == (415, "UnsupportedMediaType")


async def test_racing_patches_all_land_and_a_stale_one_does_not() -> None:
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("a"))
        await asyncio.gather(
            *(
                call(served, "PATCH", f"{CONFIGMAPS}/a", {"data": {f"k{number}": "v"}}, content_type=MERGE)
                for number in range(20)
            )
        )
        _, now = await call(served, "GET", f"{CONFIGMAPS}/a")
        assert len(now["data"]) == 20
        stale = {"metadata": {"resourceVersion": "2"}, "data": {"x": "y"}}
        status, answer = await call(served, "PATCH", f"{CONFIGMAPS}/a", stale, content_type=MERGE)
        assert (status, answer["reason"]) == (409, "Conflict")


async def test_server_side_apply_creates_merges_and_names_conflicts() -> None:
    async with serving() as served:
        url = f"{CONFIGMAPS}/a?fieldManager=one"
        status, made = await call(served, "PATCH", url, configmap("a", x="1"), content_type=APPLY)
        assert status == 201
        status, same = await call(served, "PATCH", url, configmap("a", x="1"), content_type=APPLY)
        assert (status, same) == (200, made)
        other = f"{CONFIGMAPS}/a?fieldManager=two"
        status, answer = await call(served, "PATCH", other, configmap("a", x="2"), content_type=APPLY)
        assert (status, answer["reason"]) == (409, "Conflict")
        assert answer["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.x'
        status, forced = await call(served, "PATCH", f"{other}&force=true", configmap("a", x="2"), content_type=APPLY)
        assert (status, forced["data"]) == (200, {"x": "2"})
        status, answer = await call(served, "PATCH", f"{CONFIGMAPS}/a", configmap("a"), content_type=APPLY)
        assert (status, answer["reason"]) == (422, "Invalid")


async def test_dry_run_leaves_no_trace() -> None:
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("there"))
        revision = served.store.revision
        assert (await call(served, "POST", f"{CONFIGMAPS}?dryRun=All", configmap("a")))[0] == 201
        assert (await call(served, "POST", f"{CONFIGMAPS}?dryRun=All", configmap("there")))[0] == 409
        _, changed = await call(served, "PUT", f"{CONFIGMAPS}/there?dryRun=All", configmap("there", x="1"))
        assert changed["data"] == {"x": "1"}
        assert (await call(served, "DELETE", f"{CONFIGMAPS}/there?dryRun=All"))[0] == 200
        assert served.store.revision == revision


async def test_scale() -> None:
    async with serving() as served:
        await call(served, "POST", DEPLOYMENTS, deployment("web", 3))
        status, scale = await call(served, "GET", f"{DEPLOYMENTS}/web/scale")
        assert (status, scale["kind"], scale["spec"]) == (200, "Scale", {"replicas": 3})
        assert scale["status"]["selector"] == "app=web"
        scale["spec"]["replicas"] = 5
        status, scaled = await call(served, "PUT", f"{DEPLOYMENTS}/web/scale", scale)
        assert (status, scaled["spec"]) == (200, {"replicas": 5})
        assert (await call(served, "PUT", f"{DEPLOYMENTS}/web/scale", scale))[0] == 409
        patch = {"spec": {"replicas": 0}}
        await call(served, "PATCH", f"{DEPLOYMENTS}/web/scale", patch, content_type=MERGE)
        _, parent = await call(served, "GET", f"{DEPLOYMENTS}/web")
        assert parent["spec"]["replicas"] == 0
        patch = {"spec": {"replicas": -1}}
        status, answer = await call(served, "PATCH", f"{DEPLOYMENTS}/web/scale", patch, content_type=MERGE)
        assert (status, answer["reason"]) == (422, "Invalid")


YAML_BODY = b"""
metadata: {name: doc}
data:
  switch: "on"
  date: 2024-01-02
"""


async def test_a_yaml_body_is_yaml_1_1() -> None:
    async with serving() as served:
        status, made = await call(served, "POST", CONFIGMAPS, YAML_BODY, content_type="application/yaml")
        assert (status, made["data"]) == (201, {"switch": "on", "date": "2024-01-02"})
        on = YAML_BODY.replace(b'"on"', b"on").replace(b"name: doc", b"name: other")
        status, answer = await call(served, "POST", CONFIGMAPS, on, content_type="application/yaml")
        assert (status, answer["reason"]) == (400, "BadRequest")  # `on` is a truth value, not text
        mode = b"metadata: {name: p}\nspec: {containers: [{name: c, image: i, volumeMounts: []}], volumes: [{name: v, "
        mode += b"secret: {secretName: s, defaultMode: 0644}}]}"
        _, made = await call(served, "POST", PODS, mode, content_type="application/yaml")
        assert made["spec"]["volumes"][0]["secret"]["defaultMode"] == 0o644


async def test_answers_in_yaml_where_asked() -> None:
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("a", x="1"))
        answer = await send(served, "GET", f"{CONFIGMAPS}/a", accept="application/yaml")
        assert answer.headers["content-type"] == "application/yaml"
        assert b"kind: ConfigMap\n" in answer.body
        status, _ = await call(served, "GET", f"{CONFIGMAPS}/a", accept="application/cbor")
        assert status == 406
        accept = "application/cbor,application/json"
        assert (await call(served, "GET", f"{CONFIGMAPS}/a", accept=accept))[0] == 200


async def test_events_are_one_store_with_two_versions() -> None:
    async with serving() as served:
        url = "/api/v1/namespaces/default/events"
        involved = {"kind": "Pod", "name": "p", "namespace": "default"}
        event = {"metadata": {"name": "e"}, "involvedObject": involved, "reason": "R", "message": "m", "type": "Normal"}
        assert (await call(served, "POST", url, event))[0] == 201
        status, newer = await call(served, "GET", "/apis/events.k8s.io/v1/namespaces/default/events/e")
        assert (status, newer["apiVersion"], newer["note"]) == (200, "events.k8s.io/v1", "m")
        assert newer["regarding"]["name"] == "p"
        _, listed = await call(served, "GET", "/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dp")
        assert [item["note"] for item in listed["items"]] == ["m"]


async def test_every_served_kind_answers_an_empty_list() -> None:
    async with serving() as served:
        for endpoint in served.server.core.endpoints.values():
            if "list" not in endpoint.resource.verbs:
                continue
            answer = await send(served, "GET", endpoint.resource.path())
            assert isinstance(answer.body, bytes)
            assert (answer.status, orjson.loads(answer.body)["items"]) == (200, []), endpoint.resource
