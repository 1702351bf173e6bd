"""Schemas: every built-in resource has a type, with the list kinds that patches and apply rely on."""

import pytest

from orchestrator.api import schema
from orchestrator.api.resources import DEPLOYMENTS, PODS, ROWS, SERVICES, Resource


@pytest.mark.parametrize("resource", ROWS, ids=lambda row: f"{row.api_version} {row.kind}")
def test_every_row_has_a_type(resource: Resource) -> None:
    kind = schema.type_of(resource)
    assert kind is not None
    assert {"apiVersion", "kind", "metadata"} <= set(kind.fields) | {"metadata"}


def test_lists_know_their_keys_and_merge_keys() -> None:
    pod = schema.type_of(PODS)
    assert pod is not None
    containers = pod.fields["spec"].type.fields["containers"]
    assert (containers.type.list_type, containers.type.list_keys, containers.merge_key) == ("map", ("name",), "name")
    service = schema.type_of(SERVICES)
    assert service is not None
    ports = service.fields["spec"].type.fields["ports"]
    assert (ports.type.list_keys, ports.merge_key) == (("port", "protocol"), "port")


def test_types_are_shared() -> None:
    deployment, pod = schema.type_of(DEPLOYMENTS), schema.type_of(PODS)
    assert deployment is not None and pod is not None
    template = deployment.fields["spec"].type.fields["template"].type
    assert template.fields["spec"].type is pod.fields["spec"].type
