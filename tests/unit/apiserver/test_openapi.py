"""The published documents: what kubectl validates manifests with before it sends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.api.resources import ROWS, Resource
from orchestrator.apiserver import openapi


@pytest.mark.parametrize("document", [openapi.document_v2, openapi.document_v3])
def test_a_field_may_be_named_as_a_keyword(document: Callable[[list[Resource]], dict[str, Any]]) -> None:
    """JSONSchemaProps, of which a custom resource's schema is made, has fields called $ref, type and enum."""
    made = document(list(ROWS))
    definitions = made.get("definitions") or made["components"]["schemas"]
    fields = next(found for name, found in definitions.items() if name.endswith("v1.JSONSchemaProps"))["properties"]
    assert fields["$ref"]["type"] == "string"
    assert fields["type"]["type"] == "string"
    assert fields["enum"]["type"] == "array"
