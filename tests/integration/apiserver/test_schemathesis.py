"""Schemathesis against our own OpenAPI v3 documents: no operation answers 5xx, and what is answered is as documented.

Each operation of a group is asked with a few generated requests, bounded so that a group takes seconds. Namespaces and
names are those of objects that are there (from the recorded cases), since random ones would only be NotFound.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import FailureGroup, load_all_checks
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from orchestrator.api.resources import NAMESPACES, SERVICEACCOUNTS
from orchestrator.api.wire import Request
from tests.apiserver_fixture import ADMIN
from tests.fuzz.campaign import UPSTREAMS_OWN
from tests.fuzz.requests import CONNECTING, recorded
from tests.whole_server import WholeServer

NAMESPACE = "case"  # of the recorded cases
DOCUMENTS = (
    "api/v1", "apis/apps/v1", "apis/batch/v1", "apis/autoscaling/v2", "apis/policy/v1", "apis/networking.k8s.io/v1",
    "apis/discovery.k8s.io/v1", "apis/storage.k8s.io/v1", "apis/rbac.authorization.k8s.io/v1",
    "apis/coordination.k8s.io/v1", "apis/certificates.k8s.io/v1", "apis/scheduling.k8s.io/v1", "apis/node.k8s.io/v1",
    "apis/events.k8s.io/v1", "apis/resource.k8s.io/v1", "apis/flowcontrol.apiserver.k8s.io/v1",
    "apis/authorization.k8s.io/v1",
)  # fmt: skip
LIMIT_S = 60  # of a request: the same machine makes the next one up meanwhile
# A list that Go writes as null where it was not given, though its schema says that it is required.
UPSTREAMS_OWN_GAPS = ('"limits" is a required property',)
EXAMPLES = 1
EXAMPLES_WIDE = 30


async def with_objects(server: WholeServer) -> None:
    """One object or more of nearly every kind, as the recorded cases create them."""
    await server.admin.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
    await server.admin.create(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": NAMESPACE}})
    for step in recorded():
        if step["method"] == "POST" and "body" in step:
            path = step["path"].partition("?")[0]
            headers = {"content-type": "application/json"}
            await server.api.handle(Request("POST", path, [], headers, orjson.dumps(step["body"]), ADMIN))


class Asking:
    """One operation after the other, over the network; blocking, so it runs in a thread."""

    def __init__(self, server: WholeServer, document: dict[str, Any]) -> None:
        keys = server.folder / "pki"
        self._schema = schemathesis.openapi.from_dict(document)
        self._base = f"https://127.0.0.1:{server.port}"
        self._session = requests.Session()
        self._session.verify = str(keys / "ca.crt")
        self._session.cert = (str(keys / "admin.crt"), str(keys / "admin.key"))
        self._names: dict[str, list[str]] = {}
        for endpoint in server.api.core.endpoints.values():
            path = endpoint.resource.path("{namespace}" if endpoint.resource.namespaced else "", "{name}")
            here = (entry for entry in endpoint.cache.entries.values() if entry.namespace in ("", NAMESPACE))
            self._names[path] = [entry.name for entry in here] or ["absent"]
        self.answered: dict[int, int] = {}
        self.faults: list[str] = []

    def all(self, examples: int) -> None:
        for found in self._schema.get_all_operations():
            operation = found.ok()
            is_last = operation.method == "delete" and operation.path == NAMESPACES.path("", "{name}")
            if is_last or set(operation.path.split("/")) & set(CONNECTING):
                continue  # nothing could be created any more; nobody is there to be connected to
            self._one(operation, examples)

    def _one(self, operation: Any, examples: int) -> None:
        names = next((names for path, names in self._names.items() if operation.path.startswith(path)), ["absent"])

        @settings(
            max_examples=examples,
            database=None,
            derandomize=True,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            for name, value in (("namespace", NAMESPACE), ("name", names[len(names) // 2])):
                if name in (case.path_parameters or {}):
                    case.path_parameters[name] = value
            for name in ("watch", "resourceVersion", "timeoutSeconds"):  # a stream, and waiting for the future
                (case.query or {}).pop(name, None)
            answer = case.call(base_url=self._base, session=self._session, verify=self._session.verify, timeout=LIMIT_S)
            self.answered[answer.status_code] = self.answered.get(answer.status_code, 0) + 1
            if answer.status_code >= 500:
                message = answer.json()["message"]
                assert answer.status_code == 500 and message.startswith(UPSTREAMS_OWN), (
                    case.as_curl_command(),
                    message,
                )
            checks = [content_type_conformance]
            if (
                case.method != "DELETE"
            ):  # as upstream, a Status is documented, and the object sent that a finalizer holds
                checks.append(response_schema_conformance)
            try:
                case.validate_response(answer, checks=checks)
            except FailureGroup as group:
                for fault in group.exceptions:
                    why = str(fault).split("\n")[2]
                    if why not in UPSTREAMS_OWN_GAPS:
                        self.faults.append(f"{case.method} {case.formatted_path}: {why}")

        ask()


@pytest.mark.parametrize("examples", [
    pytest.param(EXAMPLES, id="few"),
    pytest.param(EXAMPLES_WIDE, id="many", marks=[pytest.mark.wide, pytest.mark.timeout(1800)]),
])  # fmt: skip
async def test_documented_operations(examples: int, server: WholeServer) -> None:
    load_all_checks()
    await with_objects(server)
    answered: dict[int, int] = {}
    faults: list[str] = []
    for name in DOCUMENTS:
        found = await server.api.handle(Request("GET", f"/openapi/v3/{name}", identity=ADMIN))
        assert isinstance(found.body, bytes) and found.status == 200, name
        asking = Asking(server, orjson.loads(found.body))
        await asyncio.to_thread(asking.all, examples)
        for code, count in asking.answered.items():
            answered[code] = answered.get(code, 0) + count
        faults += asking.faults
    assert not faults, "\n".join(sorted(set(faults))[:40])
    assert {200, 201} <= answered.keys()
