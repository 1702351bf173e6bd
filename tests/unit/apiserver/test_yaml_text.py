"""YAML as kube-apiserver reads it, and texts that would become far larger than they are."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.apiserver import yaml_text
from orchestrator.apiserver.yaml_text import YamlError

BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter + 1, letter + 1, b",".join([b"*%c" % letter] * 9)) for letter in b"abcdefgh"
)


@pytest.mark.parametrize(("text", "value"), [
    pytest.param(b"[y, on, Yes, N, off]", [True, True, True, False, False], id="words-of-YAML-1.1"),
    pytest.param(b"[0644, 0o17, 0x1F, -0b11, 1_000, +5]", [420, 15, 31, -3, 1000, 5], id="bases"),
    pytest.param(b"[1e3, 1.50, .5, 1.]", [1000, 1.5, 0.5, 1], id="reals"),
    pytest.param(b"[18446744073709551615, 18446744073709551616]", [2**64 - 1, 2**64], id="past-64-bits-is-a-real"),
    pytest.param(b"[2026-01-01, 1:30, 0x, 1e99999, 09]", ["2026-01-01", "1:30", "0x", "1e99999", 9], id="stays-text"),
    pytest.param(b"['1', \"y\", !!str 5]", ["1", "y", "5"], id="quoted"),
    pytest.param(b"{1: a, y: b, 1.5: c}", {"1": "a", "1.5": "c", "true": "b"}, id="keys-are-text"),
    pytest.param(b"!!set {b, c}", {"b": None, "c": None}, id="a-set-is-a-mapping"),
    pytest.param(b"!!python/object:os.system x", "x", id="tags-of-others-say-nothing"),
    pytest.param(b"!!binary aGk=", "hi", id="binary"),
    pytest.param(b"a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}, id="merge"),
    pytest.param(b"a: &x [1]\nb: [*x, *x]", {"a": [1], "b": [[1], [1]]}, id="aliases"),
    pytest.param(b"", None, id="empty"),
])  # fmt: skip
def test_values(text: bytes, value: Any) -> None:
    assert yaml_text.load(text) == value


@pytest.mark.parametrize(("text", "why"), [
    pytest.param(BOMB, "document contains excessive aliasing", id="a-bomb"),
    pytest.param(b"a: &a [*a]", "anchor value contains itself", id="a-list-in-itself"),
    pytest.param(b"&a {<<: *a}", "anchor value contains itself", id="a-mapping-merged-with-itself"),
    pytest.param(b"[" * 500 + b"]" * 500, "exceeded max depth of 200", id="deep"),
    pytest.param(b"[" * 100_000, "maximum nesting depth", id="deeper"),
    pytest.param(b"? [a]\n: b", "invalid map key", id="a-list-as-key"),
    pytest.param(b"~: b", "unsupported map key", id="null-as-key"),
    pytest.param(b"a: .inf", "unsupported value: .inf", id="not-in-JSON"),
    pytest.param(b"a: !!int x", "cannot decode !!str `x` as a !!int", id="a-tag-that-does-not-fit"),
    pytest.param(b"a: !!binary x", "invalid base64", id="not-base64"),
    pytest.param(b"<<: 1", "map merge requires map", id="merge-of-a-number"),
    pytest.param(b"a: 'x", "quoted scalar", id="not-closed"),
    pytest.param(b'a: "\\ud800"', "Unicode", id="half-a-character"),
    pytest.param(b"\xff\x00", "invalid", id="noise"),
])  # fmt: skip
def test_refused(text: bytes, why: str) -> None:
    with pytest.raises(YamlError, match=why):
        yaml_text.load(text)
