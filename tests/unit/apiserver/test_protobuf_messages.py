"""Protobuf of every kind: what genuine Go encoders wrote, what the protobuf library reads, and there and back again.

`cases/protobuf.jsonl` has for every kind two objects, one of random content and one of nothing, each as encoding/json
and as the protobuf serializer of k8s.io/apimachinery v0.36.3 wrote it from the same Go value.
"""

from __future__ import annotations

import base64
import random
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from orchestrator.api import schema
from orchestrator.api.resources import Resource, ResourceTable
from orchestrator.api.schema import Type
from orchestrator.apiserver.protobuf import envelope, openapi_v2, openapi_v3
from orchestrator.apiserver.protobuf.decoding import decode
from orchestrator.apiserver.protobuf.encoding import encode
from orchestrator.apiserver.protobuf.special import SPECIAL
from orchestrator.apiserver.protobuf.table import message_name, messages
from tests.unit.apiserver.protobuf_library import classes, has_unknown, inner

RECORDED = [orjson.loads(line) for line in (Path(__file__).parent / "cases/protobuf.jsonl").open("rb")]
TIMES = ("2026-01-02T03:04:05Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "0001-01-01T00:00:02Z")
MICRO_TIMES = ("2026-01-02T03:04:05.678901Z", "1969-12-31T23:59:59.999999Z", "0001-01-01T00:00:02.000000Z")
KINDS = [row for row in ResourceTable() if schema.type_of(row) is not None]


def without_nothing(value: Any) -> Any:
    """Without what Go's JSON leaves out where `omitempty` says so, and protobuf does not tell from absence."""
    if isinstance(value, list):
        return [without_nothing(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    shown = {key: without_nothing(inner) for key, inner in value.items()}
    return {key: inner for key, inner in shown.items() if inner not in (None, "", 0, False, [], {})}


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["json"]["kind"])
def test_what_go_wrote_is_what_its_json_says(case: dict[str, Any]) -> None:
    assert without_nothing(decode(base64.b64decode(case["protobuf"]))) == without_nothing(case["json"])


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["json"]["kind"])
def test_what_we_write_says_what_go_wrote(case: dict[str, Any]) -> None:
    ours, theirs = decode(encode(case["json"])), decode(base64.b64decode(case["protobuf"]))
    assert without_nothing(ours) == without_nothing(theirs)
    assert ours == without_null(case["json"])  # zero is not absent


def without_null(value: Any) -> Any:
    if isinstance(value, list):
        return [without_null(inner) for inner in value]
    if not isinstance(value, dict) or (
        "data" in value and value.get("kind") == "Thing"
    ):  # embedded JSON stays as it is
        return value
    # A repeated field or a map of nothing is not on the wire at all.
    return {key: without_null(inner) for key, inner in value.items() if inner is not None}


def test_every_kind_has_a_message() -> None:
    for row in KINDS:
        assert message_name(row.api_version, row.kind), row
        if "list" in row.verbs:
            fields = messages()[message_name(row.api_version, row.list_kind) or ""]
            assert [fields[number][0] for number in ("1", "2")] == ["metadata", "items"], row
        if "metadata" in [name for name, _ in messages()[message_name(row.api_version, row.kind) or ""].values()]:
            assert messages()[message_name(row.api_version, row.kind) or ""]["1"][0] == "metadata", row


# -- objects of all that a schema allows -------------------------------------------------------------------------------


class Objects:
    """Random objects of a kind, from its published schema."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def of(self, row: Resource) -> dict[str, Any]:
        kind = schema.type_of(row)
        assert kind is not None
        return {**self._struct(kind, 0), "kind": row.kind, "apiVersion": row.api_version}

    def _struct(self, kind: Type, depth: int) -> dict[str, Any]:
        chance = (0.9, 0.9, 0.6, 0.5, 0.3, 0.2)[min(depth, 5)]
        # A message has no type, so an object within an object (volumeClaimTemplates) loses its, as upstream's does.
        types = ("kind", "apiVersion") if "metadata" in kind.fields else ()
        fields = [field for field in kind.fields.values() if field.name not in types]
        return {
            field.name: self.value(field.type, depth + 1)
            for field in fields
            if depth < 12 and self._random.random() < chance
        }

    def value(self, kind: Type, depth: int) -> Any:
        pick = self._random.choice
        match kind.kind:
            case schema.STRUCT:
                return self._struct(kind, depth)
            case schema.LIST:
                assert kind.item is not None
                return [self.value(kind.item, depth) for _ in range(pick((1, 2)))]
            case schema.MAP:
                assert kind.item is not None
                return {name: self.value(kind.item, depth) for name in pick((("a",), ("a", "ключ", "")))}
            case schema.STRING:
                return pick(("", "x", "größe", "日本\n", "a" * 200))
            case schema.BOOL:
                return pick((True, False))
            case schema.INTEGER:
                return pick((0, 1, -1, 127, 128, 16_384, -(2**31), 2**31 - 1))
            case schema.NUMBER:
                return pick((0, 1.5, -2, 1e300, 0.1))
            case schema.QUANTITY:
                return pick(("0", "100m", "-1", "3Gi", "1e3"))
            case schema.INT_OR_STRING:
                return pick((0, 80, -5, "http", "25%", ""))
            case schema.TIME:
                return pick(
                    ("2026-01-02T03:04:05Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "0001-01-01T00:00:02Z")
                )
            case schema.MICRO_TIME:
                return pick(MICRO_TIMES)
            case schema.BYTES:
                return base64.b64encode(self._random.randbytes(pick((0, 1, 300)))).decode()
        return pick(({"a": [None, {"b": 1.5}]}, "text", 7, False, ["x"]))


def plain(row: Resource) -> bool:
    """Not a definition: its schema's schema has kinds of their own, which the recorded cases have."""
    return row.kind != "CustomResourceDefinition"


@pytest.mark.parametrize("row", [*filter(plain, KINDS)], ids=lambda row: f"{row.api_version}/{row.kind}")
def test_there_and_back_again(row: Resource) -> None:
    for seed in range(8):
        obj = Objects(seed).of(row)
        body = encode(obj)
        assert decode(body) == without_null(obj)
        assert decode(read_and_written_by_the_library(body)) == decode(body)


# -- the protobuf library as a judge -----------------------------------------------------------------------------------


@cache
def library() -> dict[str, Any]:
    return classes(messages(), SPECIAL)


def read_and_written_by_the_library(body: bytes) -> bytes:
    api_version, kind, raw = envelope.opened(body)
    parsed = library()[message_name(api_version, kind) or ""].FromString(raw)
    assert not has_unknown(parsed)
    return envelope.closed(api_version, kind, parsed.SerializeToString())


@pytest.mark.parametrize(("version", "form"), [("v2", openapi_v2), ("v3", openapi_v3)])
def test_an_openapi_document_is_what_gnostic_makes_of_it(version: str, form: Any) -> None:
    """The same message; only YAML text is JSON here."""
    case = orjson.loads((Path(__file__).parent / f"cases/openapi_{version}.json").read_bytes())
    made = classes(form.MESSAGES)
    ours, theirs = (
        made["Document"].FromString(data) for data in (form.document(case["json"]), base64.b64decode(case["protobuf"]))
    )
    assert not has_unknown(ours)
    assert not has_unknown(theirs)
    for parsed in (ours, theirs):
        read_yaml(parsed, made["Any"])
    assert ours == theirs


def read_yaml(parsed: Any, kind: Any) -> None:
    if isinstance(parsed, kind):
        parsed.f2 = orjson.dumps(yaml.safe_load(parsed.f2), option=orjson.OPT_SORT_KEYS)
    for one in inner(parsed):
        read_yaml(one, kind)
