"""The messages: for each its fields' numbers and what JSON calls them, from `fields.json`.

A message by its OpenAPI name maps number → (JSON name, kind). A kind is s(tring), b(ool), i(nteger), d(ouble),
y (bytes) or a message; before it, `*` repeats it, `{` maps strings to it, and `~` inlines a message that JSON does not
show as one. About 610 messages, read when the first client speaks protobuf. Messages that JSON writes in another way
altogether (times, quantities) are in `special.py`. Source: the struct tags of the Go types in k8s.io/api v0.36.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import orjson

from orchestrator.api import schema

APIMACHINERY = "io.k8s.apimachinery.pkg."
META = APIMACHINERY + "apis.meta.v1."
EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."

Fields = Mapping[str, tuple[str, str]]


@lru_cache(maxsize=1)
def messages() -> Mapping[str, Fields]:
    found: Mapping[str, Fields] = orjson.loads((Path(__file__).parent / "fields.json").read_bytes())
    return found


def message_name(api_version: str, kind: str) -> str | None:
    """The message of a kind; None where it has none, as custom resources do."""
    group, _, version = api_version.rpartition("/")
    for name in (schema.definition_name(group, version, kind), META + kind):
        if name in messages():
            return name
    return None
