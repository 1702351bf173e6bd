"""Services as systemd units, the supervisor's delays, and what makes a definition."""

from __future__ import annotations

import pytest

from infra.hypervisor import supervise
from infra.hypervisor.supervise import Definition
from infra.hypervisor.units import quoted, unit_text


@pytest.mark.parametrize(
    ("word", "unit_word"),
    [
        pytest.param("plain", '"plain"', id="plain"),
        pytest.param('say "hi"', '"say \\"hi\\""', id="quotes"),
        pytest.param("back\\slash", '"back\\\\slash"', id="backslash"),
        pytest.param("100%", '"100%%"', id="specifier"),
        pytest.param("two\nlines", '"two\\nlines"', id="newline"),
    ],
)
def test_words_mean_themselves_in_a_unit(word: str, unit_word: str) -> None:
    assert quoted(word) == unit_word


def test_a_unit_comes_back_and_leaves_its_children_alone() -> None:
    argv = ("/usr/sbin/libvirtd", "--a", "$HOME")
    text = unit_text(Definition("libvirtd", argv, {"KEY": "a b"}, "/var/log/x", "abc"))
    lines = text.splitlines()
    assert 'ExecStart="/usr/sbin/libvirtd" "--a" "$$HOME"' in lines
    assert 'Environment="KEY=a b"' in lines
    assert lines[lines.index("[Service]") - 2] == "X-SampanIdentity=abc"
    assert "Restart=always" in lines
    assert "KillMode=process" in lines  # guests outlive libvirtd
    assert "StandardError=append:/var/log/x" in lines


@pytest.mark.parametrize(("deaths", "delay_s"), [(0, 0.0), (1, 0.1), (2, 0.2), (5, 1.6), (40, 10.0), (4000, 10.0)])
def test_delays_grow_to_a_bound(deaths: int, delay_s: float) -> None:
    assert supervise.delay_s(deaths) == pytest.approx(delay_s)
