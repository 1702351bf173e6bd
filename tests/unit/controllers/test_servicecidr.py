"""ServiceCIDRs: whose addresses would be in no range without them."""

from __future__ import annotations

import pytest

from orchestrator.api.meta import Object
from orchestrator.controllers.servicecidr import is_needed


def ranges(*cidrs: str) -> Object:
    return {"metadata": {"name": cidrs[0]}, "spec": {"cidrs": list(cidrs)}}


LEAVING = ranges("10.1.0.0/24", "fd00:1::/112")


@pytest.mark.parametrize(
    ("others", "addresses", "needed"),
    [
        pytest.param([], [], False, id="nobody-in-it"),
        pytest.param([], ["10.2.0.1", "fd00:2::1"], False, id="nor-of-elsewhere"),
        pytest.param([], ["10.1.0.9"], True, id="an-address-of-it-alone"),
        pytest.param([ranges("10.0.0.0/8")], ["fd00:1::7"], True, id="of-the-other-family"),
        pytest.param([ranges("10.1.0.0/28")], ["10.1.0.9"], False, id="also-in-another"),
        pytest.param([ranges("10.1.0.0/28")], ["10.1.0.200"], True, id="outside-of-the-other"),
        pytest.param([ranges("10.0.0.0/8"), ranges("fd00::/16")], ["10.1.0.9"], False, id="within-wider-ones"),
    ],
)
def test_what_is_needed(others: list[Object], addresses: list[str], needed: bool) -> None:
    assert is_needed(LEAVING, others, addresses) is needed
