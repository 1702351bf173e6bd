"""Accept headers and what they come to, as upstream's NegotiateMediaTypeOptions answers them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.api.status import NotAcceptable
from orchestrator.apiserver.encoding import JSON, PROTOBUF, YAML
from orchestrator.apiserver.negotiation import DISCOVERY, METADATA, OBJECT, TABLE, TEXTS, Accepted, accepted
from orchestrator.apiserver.protobuf import envelope
from tests.apiserver_fixture import serving
from tests.unit.apiserver.rest import CONFIGMAPS, call, configmap, send

META = ";g=meta.k8s.io;v=v1"


@pytest.mark.parametrize(
    ("header", "form", "media_type"),
    [
        pytest.param("", OBJECT, JSON, id="nothing-said"),
        pytest.param("*/*", OBJECT, JSON, id="anything"),
        pytest.param("application/*", OBJECT, JSON, id="any-application"),
        pytest.param("*", OBJECT, JSON, id="a-star"),
        pytest.param(f"{PROTOBUF},{JSON}", OBJECT, PROTOBUF, id="client-go"),
        pytest.param(f"{JSON};q=0.5, {PROTOBUF}", OBJECT, PROTOBUF, id="by-quality"),
        pytest.param(f"*/*, {PROTOBUF};q=0.1", OBJECT, PROTOBUF, id="a-name-goes-before-a-wildcard"),
        pytest.param(f"{YAML};q=0", OBJECT, YAML, id="quality-of-nothing-still-counts"),
        pytest.param(f"{YAML};q=x, {JSON};q=0.1", OBJECT, JSON, id="a-quality-that-is-none"),
        pytest.param("application/cbor, application/json", OBJECT, JSON, id="what-we-do-not-speak-is-passed-over"),
        pytest.param(f"{PROTOBUF};stream=watch", OBJECT, PROTOBUF, id="stream"),
        pytest.param(f"{YAML};stream=watch, {JSON}", OBJECT, JSON, id="yaml-does-not-stream"),
        pytest.param(f"{PROTOBUF};as=Table{META},{JSON};as=Table{META},{JSON}", TABLE, JSON, id="no-table-in-protobuf"),
        pytest.param(f"*/*;as=Table{META}", TABLE, JSON, id="a-table-in-any-encoding"),
        pytest.param(f"{PROTOBUF};as=PartialObjectMetadataList{META},{JSON}", METADATA, PROTOBUF, id="metadata-client"),
        pytest.param(f"{YAML};as=PartialObjectMetadata{META}", METADATA, YAML, id="metadata-in-yaml"),
        pytest.param(f"{JSON};as=Table,{YAML}", OBJECT, YAML, id="a-form-without-its-group-is-none"),
        pytest.param(f"{JSON};as=Table;g=meta.k8s.io;v=v9,{YAML}", OBJECT, YAML, id="a-version-that-is-none"),
        pytest.param(f"{JSON};sv=v2,{YAML}", OBJECT, YAML, id="a-server-version-that-is-none"),
        pytest.param("application, a/b/c, application/json", OBJECT, JSON, id="what-is-no-range-is-passed-over"),
    ],
)
def test_what_a_header_comes_to(header: str, form: str, media_type: str) -> None:
    found = accepted(header)
    assert (found.form, found.media_type) == (form, media_type)


@pytest.mark.parametrize(
    "header", ["text/yaml", "application/cbor", "application", f"{PROTOBUF};as=Table{META}", f"{JSON};stream=x"]
)
def test_what_fits_nothing(header: str) -> None:
    with pytest.raises(NotAcceptable) as refused:
        accepted(header)
    assert str(refused.value.message) == (
        "only the following media types are accepted: "
        "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    )


def test_custom_resources_are_text_but_for_their_metadata() -> None:
    forms = (OBJECT, TABLE, METADATA)
    assert accepted(f"{PROTOBUF},{JSON}", forms, TEXTS) == Accepted(OBJECT, JSON)
    assert accepted(f"{PROTOBUF};as=PartialObjectMetadata{META}", forms, TEXTS) == Accepted(METADATA, PROTOBUF)
    with pytest.raises(NotAcceptable):
        accepted(PROTOBUF, forms, TEXTS)


def test_aggregated_discovery_has_one_version() -> None:
    wanted = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
    assert accepted(wanted.format("v2"), (DISCOVERY,)).form == DISCOVERY
    with pytest.raises(NotAcceptable):
        accepted(wanted.format("v2beta1"), (DISCOVERY,))


# What kube-apiserver v1.36.3 answered: request → Accept → (status, media type, kind or message).
RECORDED: dict[str, dict[str, tuple[int, str, str]]] = orjson.loads(
    (Path(__file__).parent / "cases/negotiation.json").read_bytes()
)
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def deployment(name: str) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def told(body: bytes, media_type: str) -> str:
    if media_type == PROTOBUF:
        api_version, kind, _ = envelope.opened(body)
        return f"pb:{api_version}/{kind}"
    if media_type == YAML:
        return ""
    found = orjson.loads(body)
    return str(found.get("message") or found["kind"])


@pytest.mark.parametrize("asked", RECORDED)
async def test_answers_are_those_of_kube_apiserver(asked: str) -> None:
    method, url = asked.split(" ", 1)
    async with serving() as served:
        await call(served, "POST", CONFIGMAPS, configmap("a", x="1"))
        await call(served, "POST", DEPLOYMENTS, deployment("d"))
        body = configmap("new" if method == "POST" else "a") if method in ("POST", "PUT") else None
        for accept, (status, media_type, what) in RECORDED[asked].items():
            answer = await send(served, method, url, body, **({"accept": accept} if accept else {}))
            assert (answer.status, answer.headers["content-type"]) == (status, media_type), accept
            if isinstance(answer.body, bytes):
                assert told(answer.body, media_type) == what, accept
            else:
                await answer.body.aclose()
