from __future__ import annotations

import pytest

from infra.local import cgroups

HYBRID = "5:pids:/\n4:memory:/x\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(
            HYBRID, {"pids": "pids", "memory": "memory", "cpu": "cpu,cpuacct", "cpuacct": "cpu,cpuacct"}, id="hybrid"
        ),
        pytest.param("0::/user.slice\n", {}, id="unified"),
    ],
)
def test_v1_hierarchies_are_found_with_their_whole_set(text: str, found: dict[str, str]) -> None:
    assert cgroups.v1_hierarchies(text) == found
