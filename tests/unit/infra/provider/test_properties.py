"""Property values between protobuf and Python."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from hypothesis import given
from hypothesis import strategies as st
from pulumi.runtime import rpc

from infra.provider.properties import UNKNOWN, decode, encode, known

names = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(max_size=20) | st.just(UNKNOWN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(names, plain, max_size=5))
def test_what_is_encoded_is_decoded(values: dict[str, Any]) -> None:
    assert decode(encode(values)).values == values


@given(st.dictionaries(names, plain, min_size=1, max_size=5))
def test_a_secret_stays_one(values: dict[str, Any]) -> None:
    hidden = {name for name, value in values.items() if value is not UNKNOWN}
    decoded = decode(encode(values, hidden))
    assert decoded.values == values
    assert decoded.secret == hidden


def struct(values: dict[str, Any]) -> struct_pb2.Struct:
    return json_format.ParseDict(values, struct_pb2.Struct())


SECRET = {rpc._special_sig_key: rpc._special_secret_sig, "value": "hidden"}


@pytest.mark.parametrize(
    ("sent", "values", "secret"),
    [
        pytest.param({"a": 3.0}, {"a": 3}, set(), id="whole-numbers-are-ints"),
        pytest.param({"a": 0.5}, {"a": 0.5}, set(), id="others-are-not"),
        pytest.param({"a": rpc.UNKNOWN}, {"a": UNKNOWN}, set(), id="unknown"),
        pytest.param({"a": SECRET}, {"a": "hidden"}, {"a"}, id="secret"),
        pytest.param({"a": [{"b": SECRET}], "c": 1}, {"a": [{"b": "hidden"}], "c": 1}, {"a"}, id="a-secret-within"),
        pytest.param({"__defaults": ["a"], "a": 1}, {"a": 1}, set(), id="pulumis-own-properties"),
        pytest.param(
            {"a": {rpc._special_sig_key: rpc._special_output_value_sig}},
            {"a": UNKNOWN},
            set(),
            id="output-without-value",
        ),
    ],
)
def test_what_the_engine_sends(sent: dict[str, Any], values: dict[str, Any], secret: set[str]) -> None:
    decoded = decode(struct(sent))
    assert decoded.values == values
    assert decoded.secret == secret


def test_what_is_known() -> None:
    assert known({"a": UNKNOWN, "b": [1, UNKNOWN, {"c": UNKNOWN}]}) == {"b": [1, {}]}
