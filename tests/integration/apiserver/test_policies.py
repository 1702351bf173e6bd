"""Admission policies and match conditions against the whole server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from infra import pki
from infra.topology import Topology
from orchestrator.api.clock import SystemClock
from orchestrator.api.resources import (
    CONFIGMAPS,
    CUSTOMRESOURCEDEFINITIONS,
    DEPLOYMENTS,
    FLOWSCHEMAS,
    MUTATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS,
    NAMESPACES,
    RESOURCECLAIMS,
    VALIDATINGADMISSIONPOLICIES,
    VALIDATINGADMISSIONPOLICYBINDINGS,
    Resource,
)
from orchestrator.api.status import ApiError, Invalid
from orchestrator.client.discovery import served
from orchestrator.client.informer import Informers
from orchestrator.controllers.context import Context
from orchestrator.controllers.policystatus import PolicyStatusController
from tests.integration.apiserver.test_webhooks import Hook, configmap, denying, hook_server, validate_with
from tests.whole_server import WholeServer, whole_server

Json = dict[str, Any]
API = "admissionregistration.k8s.io/v1"
CONFIGMAP_RULES = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                    "resources": ["configmaps"]}]  # fmt: skip
HERE = {"matchLabels": {"kubernetes.io/metadata.name": "default"}}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WholeServer]:
    async with whole_server(tmp_path) as made:
        yield made


@pytest.fixture
async def hook(tmp_path: Path) -> AsyncIterator[Hook]:
    pki.ensure(tmp_path / "pki", Topology(name="test", workers=0))
    async with hook_server(tmp_path / "pki") as made:
        yield made


async def policy(
    server: WholeServer, resource: Resource, bindings: Resource, bound: Json | None = None, **spec: Any
) -> None:
    body = {
        "apiVersion": API,
        "kind": resource.kind,
        "metadata": {"name": "p"},
        "spec": {"matchConstraints": {"resourceRules": CONFIGMAP_RULES, "namespaceSelector": HERE}, **spec},
    }
    await server.admin.create(resource, body)
    more = {"validationActions": ["Deny"]} if bindings == VALIDATINGADMISSIONPOLICYBINDINGS else {}
    binding = {"apiVersion": API, "kind": bindings.kind, "metadata": {"name": "b"}}
    await server.admin.create(bindings, {**binding, "spec": {"policyName": "p", **more, **(bound or {})}})


async def validating(server: WholeServer, expression: str, bound: Json | None = None, **spec: Any) -> None:
    validations = spec.pop("validations", [{"expression": expression}])
    await policy(
        server, VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS, bound, validations=validations, **spec
    )


async def mutating(server: WholeServer, mutation: Json, **spec: Any) -> None:
    await policy(
        server, MUTATINGADMISSIONPOLICIES, MUTATINGADMISSIONPOLICYBINDINGS, mutations=[mutation],
        reinvocationPolicy="Never", **spec,
    )  # fmt: skip


async def refusal(server: WholeServer, body: Json) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await server.admin.create(CONFIGMAPS, body)
    return refused.value


async def test_what_does_not_hold_is_denied(server: WholeServer) -> None:
    await validating(server, "object.data.size() <= 1")
    await server.admin.create(CONFIGMAPS, configmap(a="1"))
    error = await refusal(server, configmap("two", a="1", b="2"))
    assert (error.status_code, error.to_status()["reason"]) == (422, "Invalid")
    assert error.message == (
        "configmaps \"two\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: "
        "failed expression: object.data.size() <= 1"
    )
    assert checked(server, "deny", "no_error") == "1"
    named = configmap("three", a="1", b="2")
    named["metadata"]["resourceVersion"] = "7"  # told only of what is admitted
    assert "failed expression" in (await refusal(server, named)).message
    named["data"] = {"a": "1"}
    assert (await refusal(server, named)).message == "resourceVersion should not be set on objects to be created"


async def test_words_and_reason_of_a_denial(server: WholeServer) -> None:
    said = {"expression": "false", "messageExpression": "'no ' + object.metadata.name", "reason": "Forbidden"}
    await validating(server, "", validations=[said])
    error = await refusal(server, configmap())
    assert error.status_code == 403
    assert error.message.endswith("denied request: no one")


async def test_variables_old_objects_and_requests(server: WholeServer) -> None:
    await validating(
        server,
        "request.operation == 'CREATE' || variables.same",
        variables=[{"name": "same", "expression": "object.data.a == oldObject.data.a"}],
    )
    made = await server.admin.create(CONFIGMAPS, configmap(a="1"))
    await server.admin.update(CONFIGMAPS, {**made, "data": {"a": "1", "b": "2"}})
    current = await server.admin.get(CONFIGMAPS, "one", "default")
    with pytest.raises(ApiError, match=r"failed expression: request\.operation"):
        await server.admin.update(CONFIGMAPS, {**current, "data": {"a": "3"}})


async def test_parameters(server: WholeServer) -> None:
    await server.admin.create(CONFIGMAPS, {**configmap("limits", most="1"), "metadata": {
        "name": "limits", "namespace": "kube-system"}})  # fmt: skip
    ref = {"name": "limits", "namespace": "kube-system", "parameterNotFoundAction": "Deny"}
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    await validating(server, "object.data.size() <= int(params.data.most)", {"paramRef": ref}, paramKind=kind)
    await server.admin.create(CONFIGMAPS, configmap(a="1"))
    await refusal(server, configmap("two", a="1", b="2"))
    await server.admin.delete(CONFIGMAPS, "limits", "kube-system")
    error = await refusal(server, configmap("three"))
    assert "no params found for policy binding with `Deny` parameterNotFoundAction" in error.message


async def test_what_cannot_be_evaluated(server: WholeServer) -> None:
    await validating(server, "object.data.missing == '1'", failurePolicy="Ignore")
    await server.admin.create(CONFIGMAPS, configmap(a="1"))
    current = await server.admin.get(VALIDATINGADMISSIONPOLICIES, "p")
    current["spec"]["failurePolicy"] = "Fail"
    await server.admin.update(VALIDATINGADMISSIONPOLICIES, current)
    error = await refusal(server, configmap("two", a="1"))
    assert "expression 'object.data.missing == '1'' resulted in error: no such key: missing" in error.message
    assert [checked(server, action, "invalid_error") for action in ("allow", "deny", "warn")] == ["1", "1", ""]


def checked(server: WholeServer, action: str, fault: str) -> str:
    """How often the policy's checks came to that, as /metrics tells it."""
    labels = f'enforcement_action="{action}",error_type="{fault}",policy="p",policy_binding="b"'
    start = f"apiserver_validating_admission_policy_check_total{{{labels}}} "
    lines = server.api.metrics.text().decode().splitlines()
    assert any(line.startswith("apiserver_cel_evaluation_duration_seconds_count ") for line in lines)
    return "".join(line.removeprefix(start) for line in lines if line.startswith(start))


async def test_conditions_and_the_authorizer(server: WholeServer) -> None:
    condition = {"name": "others", "expression": "!request.userInfo.username.startsWith('system:node:')"}
    await validating(
        server, "authorizer.group('').resource('secrets').namespace('default').check('list').allowed()",
        matchConditions=[condition],
    )  # fmt: skip
    await server.admin.create(CONFIGMAPS, configmap())
    rules = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}
    await server.admin.create(
        Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False),
        {"metadata": {"name": "writer"}, "rules": [rules]},
    )
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}
    role = {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": "writer"}
    await server.admin.create(
        Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", False),
        {"metadata": {"name": "writer"}, "subjects": [subject], "roleRef": role},
    )
    with pytest.raises(ApiError, match="failed expression: authorizer"):
        await server.client("jane").create(CONFIGMAPS, configmap("two"))


async def test_warnings_instead_of_denials(server: WholeServer) -> None:
    await validating(server, "false", {"validationActions": ["Warn"]})
    await server.admin.create(CONFIGMAPS, configmap())
    assert [checked(server, action, "no_error") for action in ("warn", "deny")] == ["1", ""]


async def test_an_apply_configuration_is_merged(server: WholeServer) -> None:
    labels = "metadata: Object.metadata{labels: {'made-by': 'policy'}}"
    expression = f"Object{{{labels}, data: {{'n': string(object.data.size())}}}}"
    await mutating(server, {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
    made = await server.admin.create(CONFIGMAPS, configmap(a="1"))
    assert made["metadata"]["labels"] == {"made-by": "policy"}
    assert made["data"] == {"a": "1", "n": "1"}


async def test_a_json_patch_is_applied(server: WholeServer) -> None:
    expression = "[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('x/y'), value: 'z'}]"
    condition = {"name": "no-opt-out", "expression": "!('opt-out' in object.data)"}
    await mutating(
        server, {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}, matchConditions=[condition]
    )
    with pytest.raises(Invalid):  # a key of a ConfigMap has no slash: the patch was made, and then validated
        await server.admin.create(CONFIGMAPS, configmap("k", a="1"))
    await server.admin.create(CONFIGMAPS, {**configmap("free"), "data": {"opt-out": "1"}})


async def test_policies_that_cannot_be(server: WholeServer) -> None:
    for spec, field in (
        ({"validations": [{"expression": "object.data.size() <="}]}, "spec.validations[0].expression"),
        ({"validations": [{"expression": "1 + 1"}]}, "spec.validations[0].expression"),
        ({"validations": [{"expression": "true"}], "matchConstraints": {"resourceRules": []}},
         "spec.matchConstraints.resourceRules"),
    ):  # fmt: skip
        with pytest.raises(Invalid) as refused:
            await policy(server, VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS, **spec)
        assert [cause.field for cause in refused.value.causes] == [field]


async def test_match_conditions_of_webhooks(server: WholeServer, hook: Hook) -> None:
    condition = {"name": "only-guarded", "expression": "object.data.guard == 'on'"}
    await validate_with(server, hook, "guards", denying("guarded"), matchConditions=[condition])
    await server.admin.create(CONFIGMAPS, configmap(guard="off"))
    assert hook.seen == []
    with pytest.raises(ApiError, match="guarded"):
        await server.admin.create(CONFIGMAPS, configmap("two", guard="on"))
    with pytest.raises(ApiError, match="failed to evaluate match conditions"):
        await server.admin.create(CONFIGMAPS, configmap("three"))


async def test_kinds_of_flow_control_and_devices_are_served(server: WholeServer) -> None:
    schema = {"priorityLevelConfiguration": {"name": "global-default"}, "distinguisherMethod": {"type": "ByUser"}}
    made = await server.admin.create(FLOWSCHEMAS, {"metadata": {"name": "mine"}, "spec": schema})
    assert made["spec"]["matchingPrecedence"] == 1000
    request = {"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}
    claim = {"metadata": {"name": "c", "namespace": "default"}, "spec": {"devices": {"requests": [request]}}}
    made = await server.admin.create(RESOURCECLAIMS, claim)
    assert made["spec"]["devices"]["requests"][0]["exactly"]["count"] == 1
    made["spec"]["devices"]["requests"][0]["exactly"]["count"] = 2
    with pytest.raises(Invalid, match="field is immutable"):
        await server.admin.update(RESOURCECLAIMS, made)


async def test_nothing_else_is_asked(server: WholeServer) -> None:
    await validating(server, "false")
    await server.admin.create(NAMESPACES, {"metadata": {"name": "free"}})
    with pytest.raises(ApiError):
        await server.admin.create(DEPLOYMENTS, {"metadata": {"name": "d", "namespace": "default"}, "spec": {}})


async def test_the_audit_event_says_what_a_policy_found(tmp_path: Path) -> None:
    rules, log = tmp_path / "policy.yaml", tmp_path / "audit.log"
    rules.write_text(json.dumps({"kind": "Policy", "rules": [{"level": "Metadata"}]}))
    async with whole_server(tmp_path, audit_policy_file=str(rules), audit_log_path=str(log)) as server:
        await policy(
            server,
            VALIDATINGADMISSIONPOLICIES,
            VALIDATINGADMISSIONPOLICYBINDINGS,
            {"validationActions": ["Audit", "Warn"]},
            validations=[{"expression": "true"}, {"expression": "!has(object.data)", "message": "no data, please"}],
            auditAnnotations=[
                {"key": "size", "valueExpression": "has(object.data) ? string(size(object.data)) : ''"},
                {"key": "name", "valueExpression": "' ' + object.metadata.name + ' '"},
            ],
        )
        await server.admin.create(CONFIGMAPS, configmap("audited", a="b"))
        bare = configmap("bare")
        del bare["data"]
        await server.admin.create(CONFIGMAPS, bare)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    found = [event["annotations"] for event in events if "p/name" in event.get("annotations", {})]
    assert {key: value for key, value in found[0].items() if "authorization" not in key} == {
        "p/name": "audited",
        "p/size": "1",
        "validation.policy.admission.k8s.io/validation_failure": (
            '[{"message":"no data, please","policy":"p","binding":"b","expressionIndex":1,'
            '"validationActions":["Audit","Warn"]}]'
        ),
    }
    assert found[-1]["p/name"] == "bare" and "p/size" not in found[-1]


async def test_an_annotation_that_cannot_be_worked_out_denies(server: WholeServer) -> None:
    await policy(
        server,
        VALIDATINGADMISSIONPOLICIES,
        VALIDATINGADMISSIONPOLICYBINDINGS,
        {"validationActions": ["Audit"]},
        auditAnnotations=[{"key": "size", "valueExpression": "'a' + object.data.missing"}],
    )
    error = await refusal(server, configmap(a="b"))
    assert error.message.endswith(
        "denied request: expression ''a' + object.data.missing' resulted in error: no such key: missing"
    )


async def test_the_controller_manager_warns_of_what_can_never_hold(server: WholeServer) -> None:
    """By what the server itself publishes of a custom kind."""
    properties = {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}
    names = {"plural": "toys", "singular": "toy", "kind": "Toy", "listKind": "ToyList"}
    version = {"name": "v1", "served": True, "storage": True,
               "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}}  # fmt: skip
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    definition = {"metadata": {"name": "toys.example.com"}, "spec": spec}
    await server.admin.create(CUSTOMRESOURCEDEFINITIONS, definition)
    rule = {"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["toys"]}
    validations = [{"expression": "object.spec.size > 'a'"}, {"expression": "object.spec.size > 1"}]
    client = server.client("system:kube-controller-manager")
    async with Informers(client) as informers, asyncio.TaskGroup() as group:
        controller = PolicyStatusController(Context(client, informers, SystemClock(), Random(1)))
        await informers.wait_synced()
        running = group.create_task(controller.run())
        async with asyncio.timeout(60):
            while not await served(client, "example.com", "v1"):
                await asyncio.sleep(0.05)
            await policy(
                server, VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS,
                matchConstraints={"resourceRules": [rule]}, validations=validations,
            )  # fmt: skip
            found: Json = {}
            while not found.get("observedGeneration"):
                found = (await server.admin.get(VALIDATINGADMISSIONPOLICIES, "p")).get("status") or {}
                await asyncio.sleep(0.02)
        running.cancel()
    (warning,) = found["typeChecking"]["expressionWarnings"]
    assert warning["fieldRef"] == "spec.validations[0].expression"
    assert "example.com/v1, Kind=Toy: ERROR: <input>:1:18: found no matching overload" in warning["warning"]
    assert "'_>_' applied to '(int, string)'" in warning["warning"]
