"""Warning headers: quoted, told once, bounded, and never the end of their header."""

from __future__ import annotations

import pytest

from orchestrator.apiserver import warning


@pytest.mark.parametrize(("texts", "told"), [
    pytest.param(['unknown field "a\\b"'], ['299 - "unknown field \\"a\\\\b\\""'], id="quoted"),
    pytest.param(["a", "b", "a"], ['299 - "a"', '299 - "b"'], id="once"),
    pytest.param(["a\r\nset-cookie: b", "c\u0085", "d\x00", "é"], ['299 - "é"'], id="no-control-characters"),
    pytest.param(["", "a"], ['299 - "a"'], id="not-empty"),
])  # fmt: skip
def test_values(texts: list[str], told: list[str]) -> None:
    assert warning.values(texts) == told


def test_long_ones_are_cut_and_many_are_dropped() -> None:
    found = warning.values(f"{number}{'x' * 1000}" for number in range(1000))
    assert len(found) == warning.TOTAL_MAX // warning.ITEM_MAX
    assert {len(text) for text in found} == {warning.ITEM_MAX + len('299 - ""')}
