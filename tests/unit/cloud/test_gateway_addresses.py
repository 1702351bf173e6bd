"""Which addresses a load balancer gets."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cloud import gateway_addresses
from orchestrator.cloud.gateway_addresses import Range
from orchestrator.cloud.provider import CloudError, LoadBalancer

RANGES = [Range.parse("172.29.0.200-172.29.0.202"), Range.parse("fd00:172:29::200-fd00:172:29::2ff")]


def wish(name: str = "one", **more: Any) -> LoadBalancer:
    base: dict[str, Any] = {"families": ("IPv4", "IPv6"), "ports": (), "backends": ()}
    return LoadBalancer(name=name, service=f"default/{name}", **{**base, **more})


V6 = "fd00:172:29::200"


@pytest.mark.parametrize(
    ("wanted", "owners", "want"),
    [
        pytest.param(wish(), {}, ("172.29.0.200", V6), id="first-of-each-family"),
        pytest.param(wish(), {"172.29.0.200": "two"}, ("172.29.0.201", V6), id="next-free"),
        pytest.param(wish(families=("IPv6", "IPv4")), {}, (V6, "172.29.0.200"), id="in-the-services-order"),
        pytest.param(wish(families=("IPv6",)), {}, (V6,), id="one-family"),
        pytest.param(wish(held=("172.29.0.202",)), {}, ("172.29.0.202", V6), id="keeps-what-it-holds"),
        pytest.param(
            wish(held=("FD00:172:29:0::2FE",)), {}, ("172.29.0.200", "fd00:172:29::2fe"), id="however-written"
        ),
        pytest.param(wish(held=("10.0.0.1",)), {}, ("172.29.0.200", V6), id="held-outside-our-range"),
        pytest.param(
            wish(held=("172.29.0.202",)), {"172.29.0.202": "two"}, ("172.29.0.200", V6), id="held-by-another-as-well"
        ),
        pytest.param(wish(), {"172.29.0.202": "one"}, ("172.29.0.202", V6), id="given-before-the-status-was-written"),
        pytest.param(
            wish(held=("172.29.0.201",), requested="172.29.0.202"), {}, ("172.29.0.202", V6), id="asked-beats-held"
        ),
    ],
)
def test_choice(wanted: LoadBalancer, owners: dict[str, str], want: tuple[str, ...]) -> None:
    assert gateway_addresses.choose(wanted, RANGES, owners) == want


FULL = {f"172.29.0.{number}": "two" for number in (200, 201, 202)}


@pytest.mark.parametrize(
    ("wanted", "owners", "message"),
    [
        pytest.param(wish(), FULL, r"no address is left: all of 172\.29\.0\.200-172\.29\.0\.202", id="full"),
        pytest.param(
            wish(requested="172.29.0.201"), FULL, r"172\.29\.0\.201 is taken by load balancer two", id="taken"
        ),
        pytest.param(wish(requested="10.0.0.1"), {}, r"10\.0\.0\.1 is not in 172\.29\.0\.200-", id="outside"),
        pytest.param(wish(requested="fd00::1", families=("IPv4",)), {}, "its family is none of", id="other-family"),
        pytest.param(wish(requested="example"), {}, "'example'", id="no-address"),
    ],
)
def test_refusal_says_why(wanted: LoadBalancer, owners: dict[str, str], message: str) -> None:
    with pytest.raises(CloudError, match=message):
        gateway_addresses.choose(wanted, RANGES, owners)


def test_a_lab_of_one_family_says_so() -> None:
    with pytest.raises(CloudError, match="no load balancer addresses of family IPv6"):
        gateway_addresses.choose(wish(), RANGES[:1], {})


def test_after_a_restart_the_older_keeps_what_two_hold() -> None:
    older, younger = wish("older", held=("172.29.0.200",)), wish("younger", held=("172.29.0.200", "10.0.0.1", V6))
    owners = gateway_addresses.restored([older, younger], RANGES)
    assert owners == {"172.29.0.200": "older", V6: "younger"}
    assert gateway_addresses.choose(younger, RANGES, owners) == ("172.29.0.201", V6)


@pytest.mark.parametrize("text", ["172.29.0.250-172.29.0.200", "172.29.0.1-fd00::1", "x-y", ""])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Range.parse(text)
