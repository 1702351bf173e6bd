"""What this provider does not have: refused at the check, with what to use instead."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.provider.calls.small_engine import Failed, Refused, Resource

New = Callable[..., Resource]


def test_a_resource_of_another_version(resource: New) -> None:
    with pytest.raises(Failed, match="libvirt:index/secretThing:SecretThing: this provider has no such resource"):
        resource("SecretThing", "x").up({})


def test_a_value_that_is_no_value(resource: New) -> None:
    with pytest.raises(Refused) as refused:
        resource("Domain", "x").up({"name": "dom", "memory": -5, "type": "qemu"})
    assert refused.value.failures == {"memory": "domain dom: memory = -5: Expected `int` >= 1"}
