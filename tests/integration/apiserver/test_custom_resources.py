"""CustomResourceDefinitions against the whole server: accepted, served, validated, pruned, applied, and taken away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api import conditions
from orchestrator.api.resources import CUSTOMRESOURCEDEFINITIONS
from orchestrator.api.status import Invalid
from orchestrator.api.wire import Request, Response
from orchestrator.apiserver.server import LOOPBACK
from tests.whole_server import WholeServer, whole_server

SPEC = {
    "type": "object",
    "required": ["schedule"],
    "properties": {
        "schedule": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
        "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 2},
        "image": {"type": "string", "maxLength": 20},
        "mode": {"type": "string", "enum": ["slow", "fast"]},
        "ports": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port"],
            "items": {
                "type": "object",
                "required": ["port"],
                "properties": {"port": {"type": "integer"}, "name": {"type": "string", "default": "web"}},
            },
        },
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "either": {"x-kubernetes-int-or-string": True},
    },
}
STATUS = {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}}


def definition(**changes: Any) -> dict[str, Any]:
    version: dict[str, Any] = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": SPEC, "status": STATUS}}},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            {"name": "Schedule", "type": "string", "jsonPath": ".spec.schedule"},
            {"name": "Port", "type": "integer", "jsonPath": '.spec.ports[?(@.name=="web")].port', "priority": 1},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        "selectableFields": [{"jsonPath": ".spec.mode"}],
        **changes,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "scope": "Namespaced",
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "shortNames": ["ct"]},
            "versions": [version],
        },
    }


def crontab(name: str = "one", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "stable.example.com/v1",
        "kind": "CronTab",
        "metadata": {"name": name},
        "spec": {"schedule": "* * * * */5", **spec},
    }


ROOT = "/apis/stable.example.com/v1/namespaces/default/crontabs"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WholeServer]:
    async with whole_server(tmp_path) as made:
        yield made


async def call(server: WholeServer, method: str, path: str, body: Any = None, **headers: str) -> Response:
    url, _, query = path.partition("?")
    pairs = [(key, value) for key, _, value in (part.partition("=") for part in query.split("&") if part)]
    data = json.dumps(body).encode() if body is not None else b""
    sent = {"content-type": "application/json", **{key.replace("_", "-"): value for key, value in headers.items()}}
    return await server.api.handle(Request(method, url, pairs, sent, data, identity=LOOPBACK))


def read(response: Response) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


async def established(server: WholeServer, name: str = "crontabs.stable.example.com") -> dict[str, Any]:
    async with asyncio.timeout(5):
        while True:
            found = await server.admin.get(CUSTOMRESOURCEDEFINITIONS, name)
            if conditions.is_true(found, "Established"):
                return found
            await asyncio.sleep(0.01)


async def define(server: WholeServer, **changes: Any) -> dict[str, Any]:
    await server.admin.create(CUSTOMRESOURCEDEFINITIONS, definition(**changes))
    return await established(server)


async def test_a_definition_is_accepted_and_served(server: WholeServer) -> None:
    found = await define(server)
    assert [c["type"] for c in found["status"]["conditions"]] == ["NamesAccepted", "Established"]
    assert found["status"]["acceptedNames"]["listKind"] == "CronTabList"
    assert found["status"]["storedVersions"] == ["v1"]
    made = read(await call(server, "POST", ROOT, crontab(unknown=1, open={"x": {"y": 1}}, ports=[{"port": 80}])))
    assert made["spec"] == {
        "schedule": "* * * * */5", "open": {"x": {"y": 1}}, "ports": [{"port": 80, "name": "web"}], "replicas": 2,
    }  # fmt: skip
    assert made["metadata"]["generation"] == 1
    resources = read(await call(server, "GET", "/apis/stable.example.com/v1"))["resources"]
    assert [one["name"] for one in resources] == ["crontabs", "crontabs/scale", "crontabs/status"]
    groups = read(await call(server, "GET", "/apis"))["groups"]
    assert groups[-1]["preferredVersion"] == {"groupVersion": "stable.example.com/v1", "version": "v1"}


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"replicas": 11}, "spec.replicas",
         "Invalid value: 11: spec.replicas in body should be less than or equal to 10"),
        ({"replicas": "x"}, "spec.replicas",
         'Invalid value: "string": spec.replicas in body must be of type integer: "string"'),
        ({"schedule": "now"}, "spec.schedule", 'Invalid value: "now": spec.schedule in body should match'),
        ({"mode": "odd"}, "spec.mode", 'Unsupported value: "odd": supported values: "slow", "fast"'),
        ({"image": "x" * 21}, "spec.image", "Too long: may not be more than 20 bytes"),
        ({"ports": [{"name": "a"}]}, "spec.ports[0].port", "Required value"),
        ({"ports": [{"port": 1}, {"port": 1}]}, "spec.ports[1]", 'Duplicate value: {"port":1}'),
        ({"tags": ["a", "b", "a"]}, "spec.tags[2]", 'Duplicate value: "a"'),
        ({"either": True}, "spec.either",
         'Invalid value: "boolean": spec.either in body must be of type integer,string: "boolean"'),
    ],
)  # fmt: skip
async def test_what_does_not_hold_is_refused(server: WholeServer, spec: Any, field: str, message: str) -> None:
    await define(server)
    status = read(await call(server, "POST", ROOT, crontab(**spec)))
    assert (status["code"], status["reason"]) == (422, "Invalid")
    causes = status["details"]["causes"]
    assert [cause["field"] for cause in causes] == [field]
    assert causes[0]["message"].startswith(message)


async def test_an_update_is_not_held_to_what_did_not_change(server: WholeServer) -> None:
    await define(server)
    made = read(await call(server, "POST", ROOT, crontab(image="x" * 15)))
    tighter = json.loads(json.dumps(definition()))
    tighter["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["image"] = {
        "type": "string",
        "maxLength": 5,
    }
    current = await server.admin.get(CUSTOMRESOURCEDEFINITIONS, "crontabs.stable.example.com")
    await server.admin.update(CUSTOMRESOURCEDEFINITIONS, {**current, "spec": tighter["spec"]})
    async with asyncio.timeout(5):
        while (answer := await call(server, "POST", ROOT, crontab("two", image="x" * 15))).status != 422:
            await call(server, "DELETE", f"{ROOT}/two")
            await asyncio.sleep(0.01)
    changed = {**made, "metadata": {**made["metadata"], "labels": {"a": "b"}}}
    assert (await call(server, "PUT", f"{ROOT}/one", changed)).status == 200
    changed = read(await call(server, "GET", f"{ROOT}/one"))
    changed["spec"]["image"] = "y" * 15
    answer = await call(server, "PUT", f"{ROOT}/one", changed)
    assert answer.status == 422, answer.body


async def test_status_and_scale_are_their_own(server: WholeServer) -> None:
    await define(server)
    made = read(await call(server, "POST", ROOT, {**crontab(), "status": {"replicas": 9}}))
    assert "status" not in made
    made["status"] = {"replicas": 3, "selector": "app=x"}
    made["spec"]["replicas"] = 7
    after = read(await call(server, "PUT", f"{ROOT}/one/status", made))
    assert (after["status"]["replicas"], after["spec"]["replicas"], after["metadata"]["generation"]) == (3, 2, 1)
    scale = read(await call(server, "GET", f"{ROOT}/one/scale"))
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"] == {"replicas": 3, "selector": "app=x"}
    patch = {"spec": {"replicas": 5}}
    answer = await call(server, "PATCH", f"{ROOT}/one/scale", patch, content_type="application/merge-patch+json")
    assert read(answer)["spec"] == {"replicas": 5}
    assert read(await call(server, "GET", f"{ROOT}/one"))["metadata"]["generation"] == 2


async def test_a_scale_is_applied(server: WholeServer) -> None:
    await define(server)
    sent = "application/apply-patch+yaml"
    answer = await call(server, "PATCH", f"{ROOT}/one?fieldManager=owner", crontab(), content_type=sent)
    assert answer.status == 201, answer.body
    wanted = {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 5}}
    answer = await call(server, "PATCH", f"{ROOT}/one/scale?fieldManager=x", wanted, content_type=sent)
    assert (answer.status, read(answer)["reason"]) == (409, "Conflict")
    answer = await call(server, "PATCH", f"{ROOT}/one/scale?fieldManager=x&force=true", wanted, content_type=sent)
    assert (answer.status, read(answer)["spec"]) == (200, {"replicas": 5})
    entries = read(await call(server, "GET", f"{ROOT}/one"))["metadata"]["managedFields"]
    owners = [entry["manager"] for entry in entries if "f:replicas" in entry["fieldsV1"]["f:spec"]]
    assert owners == ["x"]
    assert entries[0]["apiVersion"] == "stable.example.com/v1"


async def test_apply_merges_by_the_schema(server: WholeServer) -> None:
    await define(server)
    sent = "application/apply-patch+yaml"
    first = crontab(ports=[{"port": 80, "name": "a"}], tags=["x"])
    second = {**crontab(), "spec": {"ports": [{"port": 81, "name": "b"}], "tags": ["y"]}}
    answer = await call(server, "PATCH", f"{ROOT}/one?fieldManager=one", first, content_type=sent)
    assert answer.status == 201, answer.body
    merged = read(await call(server, "PATCH", f"{ROOT}/one?fieldManager=two", second, content_type=sent))
    assert [port["port"] for port in merged["spec"]["ports"]] == [80, 81]
    assert merged["spec"]["tags"] == ["x", "y"]
    third = {**crontab(), "spec": {"schedule": "1 * * * *"}}
    conflict = await call(server, "PATCH", f"{ROOT}/one?fieldManager=two", third, content_type=sent)
    assert conflict.status == 409
    assert 'conflict with "one"' in read(conflict)["message"]
    bad = {**crontab(), "spec": {"sched": "x"}}
    answer = await call(server, "PATCH", f"{ROOT}/one?fieldManager=two", bad, content_type=sent)
    assert ".spec.sched: field not declared in schema" in read(answer)["message"]
    strategic = await call(
        server, "PATCH", f"{ROOT}/one", {"spec": {}}, content_type="application/strategic-merge-patch+json"
    )
    assert strategic.status == 415


async def test_unknown_fields_are_told(server: WholeServer) -> None:
    await define(server)
    answer = await call(server, "POST", f"{ROOT}?fieldValidation=Strict", crontab(nope=1))
    assert answer.status == 400
    assert 'strict decoding error: unknown field "spec.nope"' in read(answer)["message"]
    answer = await call(server, "POST", f"{ROOT}?fieldValidation=Warn", crontab(nope=1))
    assert answer.headers["warning"] == '299 - "unknown field \\"spec.nope\\""'


async def test_columns_selectors_and_watch(server: WholeServer) -> None:
    await define(server)
    await call(server, "POST", ROOT, crontab("slow", mode="slow", ports=[{"port": 8080}]))
    await call(server, "POST", ROOT, crontab("fast", mode="fast"))
    table = read(await call(server, "GET", ROOT, accept="application/json;as=Table;v=v1;g=meta.k8s.io"))
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Schedule", "Port", "Age"]
    assert [row["cells"][:3] for row in table["rows"]] == [["fast", "* * * * */5", None], ["slow", "* * * * */5", 8080]]
    found = read(await call(server, "GET", f"{ROOT}?fieldSelector=spec.mode=slow"))
    assert found["kind"] == "CronTabList"
    assert [item["metadata"]["name"] for item in found["items"]] == ["slow"]


async def test_several_versions_show_the_same_object(server: WholeServer) -> None:
    spec = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    loose = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    wish = definition()
    first = wish["spec"]["versions"][0]
    wish["spec"]["versions"] = [
        {"name": "v1beta1", "served": True, "storage": False, "schema": loose, "deprecated": True},
        first,
        {"name": "v1alpha1", "served": False, "storage": False, "schema": loose},
    ]
    await server.admin.create(CUSTOMRESOURCEDEFINITIONS, wish)
    await established(server)
    beta = ROOT.replace("/v1/", "/v1beta1/")
    body = {**crontab(), "apiVersion": "stable.example.com/v1beta1"}
    answer = await call(server, "POST", beta, body)
    assert (
        answer.headers["warning"]
        == '299 - "stable.example.com/v1beta1 CronTab is deprecated; use stable.example.com/v1 CronTab"'
    )
    assert read(answer)["apiVersion"] == "stable.example.com/v1beta1"
    assert read(await call(server, "GET", f"{ROOT}/one"))["apiVersion"] == "stable.example.com/v1"
    group = read(await call(server, "GET", "/apis/stable.example.com"))
    assert [version["version"] for version in group["versions"]] == ["v1", "v1beta1"]
    assert (await call(server, "GET", ROOT.replace("/v1/", "/v1alpha1/"))).status == 404


async def test_names_that_others_have_are_not_given(server: WholeServer) -> None:
    await define(server)
    rival = definition()
    rival["metadata"]["name"] = "rivals.stable.example.com"
    rival["spec"]["names"] = {"plural": "rivals", "kind": "Rival", "shortNames": ["ct"]}
    await server.admin.create(CUSTOMRESOURCEDEFINITIONS, rival)
    async with asyncio.timeout(5):
        while True:
            found = await server.admin.get(CUSTOMRESOURCEDEFINITIONS, "rivals.stable.example.com")
            accepted = conditions.find(found["status"].get("conditions"), "NamesAccepted")
            if accepted:
                break
            await asyncio.sleep(0.01)
    assert (accepted["reason"], accepted["message"]) == ("ShortNamesConflict", '"ct" is already in use')
    assert not conditions.is_true(found, "Established")
    await server.admin.delete(CUSTOMRESOURCEDEFINITIONS, "crontabs.stable.example.com")
    await established(server, "rivals.stable.example.com")


async def test_a_definition_takes_its_resources_along(server: WholeServer) -> None:
    await define(server)
    await call(server, "POST", ROOT, crontab())
    held = crontab("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await call(server, "POST", ROOT, held)
    watch = await call(server, "GET", f"{ROOT}?watch=true&resourceVersion=0")
    await server.admin.delete(CUSTOMRESOURCEDEFINITIONS, "crontabs.stable.example.com")
    async with asyncio.timeout(5):
        while (answer := await call(server, "POST", ROOT, crontab("late"))).status != 405:
            await asyncio.sleep(0.01)
        while (await call(server, "GET", f"{ROOT}/one")).status != 404:
            await asyncio.sleep(0.01)
    assert answer.status == 405
    assert read(await call(server, "GET", f"{ROOT}/held"))["metadata"]["deletionTimestamp"]
    patch = {"metadata": {"finalizers": None}}
    await call(server, "PATCH", f"{ROOT}/held", patch, content_type="application/merge-patch+json")
    async with asyncio.timeout(5):
        while (await call(server, "GET", "/apis/stable.example.com/v1")).status != 404:
            await asyncio.sleep(0.01)
    assert (await call(server, "GET", ROOT)).status == 404
    assert not isinstance(watch.body, bytes)


async def test_restart_serves_what_was_defined(tmp_path: Path) -> None:
    async with whole_server(tmp_path) as first:
        await define(first)
        await call(first, "POST", ROOT, crontab())
    async with whole_server(tmp_path) as second:
        assert read(await call(second, "GET", f"{ROOT}/one"))["spec"]["replicas"] == 2


async def test_explain_finds_the_schema(server: WholeServer) -> None:
    await define(server)
    index = read(await call(server, "GET", "/openapi/v3"))["paths"]
    assert "apis/stable.example.com/v1" in index
    document = read(await call(server, "GET", "/openapi/v3/apis/stable.example.com/v1"))
    shown = document["components"]["schemas"]["com.example.stable.v1.CronTab"]
    assert shown["properties"]["spec"]["properties"]["replicas"]["default"] == 2
    assert shown["x-kubernetes-group-version-kind"] == [
        {"group": "stable.example.com", "version": "v1", "kind": "CronTab"}
    ]


@pytest.mark.parametrize(
    ("schema", "field", "message"),
    [
        ({"type": "object", "properties": {"spec": {"properties": {}}}},
         "spec.validation.openAPIV3Schema.properties[spec].type",
         "Required value: must not be empty for specified object fields"),
        ({"type": "object", "properties": {"spec": {"type": "object", "anyOf": [{"type": "string"}]}}},
         "spec.validation.openAPIV3Schema.properties[spec].anyOf[0].type",
         "Forbidden: must be empty to be structural"),
        ({"type": "object", "properties": {"n": {"type": "integer", "default": "x"}}},
         "spec.validation.openAPIV3Schema.properties[n].default",
         'Invalid value: "string":  in body must be of type integer: "string"'),
        ({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "object"},
                                                 "x-kubernetes-list-type": "map"}}},
         "spec.validation.openAPIV3Schema.properties[l].x-kubernetes-list-map-keys",
         "Required value: must not be empty if x-kubernetes-list-type is map"),
        ({"type": "object", "properties": {"l": {"type": "array"}}},
         "spec.validation.openAPIV3Schema.properties[l].items", "Required value: must be specified"),
    ],
)  # fmt: skip
async def test_schemas_that_are_not_structural_are_refused(
    server: WholeServer, schema: Any, field: str, message: str
) -> None:
    bad = definition(schema={"openAPIV3Schema": schema}, selectableFields=None, subresources=None)
    with pytest.raises(Invalid) as refused:
        await server.admin.create(CUSTOMRESOURCEDEFINITIONS, bad)
    causes = {cause.field: cause.message for cause in refused.value.causes}
    assert causes.get(field) == message, causes


async def test_defaults_reach_what_was_stored_before(server: WholeServer) -> None:
    await define(server)
    await call(server, "POST", ROOT, crontab())
    current = await server.admin.get(CUSTOMRESOURCEDEFINITIONS, "crontabs.stable.example.com")
    version = current["spec"]["versions"][0]
    version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["mode"]["default"] = "slow"
    del version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["replicas"]
    del version["subresources"]["scale"]
    await server.admin.update(CUSTOMRESOURCEDEFINITIONS, current)
    async with asyncio.timeout(5):
        while "mode" not in (seen := read(await call(server, "GET", f"{ROOT}/one"))).get("spec", {}):
            await asyncio.sleep(0.01)
    assert seen["spec"] == {"schedule": "* * * * */5", "mode": "slow"}


async def test_a_changed_definition_never_stops_being_served(server: WholeServer) -> None:
    await define(server)
    await call(server, "POST", ROOT, crontab())
    statuses: list[int] = []
    is_over = asyncio.Event()

    async def look() -> None:
        while not is_over.is_set():
            statuses.append((await call(server, "GET", f"{ROOT}/one")).status)
            statuses.append((await call(server, "GET", "/apis/stable.example.com/v1")).status)
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    for number in range(5):
        current = await server.admin.get(CUSTOMRESOURCEDEFINITIONS, "crontabs.stable.example.com")
        properties = current["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        properties["mode"]["default"] = wanted = ("slow", "fast")[number % 2]
        await server.admin.update(CUSTOMRESOURCEDEFINITIONS, current)
        async with asyncio.timeout(5):
            while read(await call(server, "GET", f"{ROOT}/one"))["spec"].get("mode") != wanted:
                await asyncio.sleep(0.001)
    is_over.set()
    await looking
    assert set(statuses) == {200}
