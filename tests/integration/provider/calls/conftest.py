"""A libvirtd of the tests' own, the provider's process, and the check that nothing is left of any test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.hypervisor.libvirtd import Libvirtd
from infra.provider.binding import connect
from tests.integration.own_libvirtd import own_libvirtd
from tests.integration.provider.calls.small_engine import Provider, Resource


@pytest.fixture(scope="session")
def libvirtd() -> Iterator[Libvirtd]:
    with own_libvirtd() as made:
        yield made


@pytest.fixture
def connection(libvirtd: Libvirtd) -> Iterator[Any]:
    opened = connect(libvirtd.uri)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def provider(libvirtd: Libvirtd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    made = Provider(libvirtd.uri, tmp_path_factory.mktemp("pulumi-home"))
    yield made
    made.close()


@pytest.fixture
def words(provider: Provider) -> list[str]:
    """What the provider says to the user from now on, status lines left out."""
    provider.words.lines.clear()
    provider.words.status.clear()
    return provider.words.lines


@pytest.fixture
def resource(provider: Provider) -> Iterator[Callable[..., Resource]]:
    """`resource("Network", "net")`; what it became is deleted after the test, the last one first."""
    made: list[Resource] = []

    def new(kind: str, name: str = "", stack: str = "") -> Resource:
        made.append(Resource(provider, kind, name or kind.lower(), **({"stack": stack} if stack else {})))
        return made[-1]

    yield new
    for each in reversed(made):
        each.delete()


_numbers = itertools.count(1)


@pytest.fixture
def subnets() -> tuple[str, str]:
    """Of both families, that no other test has at the time."""
    number = next(_numbers) % 250
    return f"172.31.{number}.0/24", f"fd00:172:31:{number:x}::/64"


@pytest.fixture(autouse=True)
def nothing_is_left(libvirtd: Libvirtd) -> Iterator[None]:
    yield
    connection = connect(libvirtd.uri)
    left = [
        *(domain.name() for domain in connection.listAllDomains()),
        *(network.name() for network in connection.listAllNetworks()),
        *(pool.name() for pool in connection.listAllStoragePools()),
    ]
    for domain in connection.listAllDomains():
        if domain.isActive():
            domain.destroy()
        domain.undefine()
    for thing in (*connection.listAllNetworks(), *connection.listAllStoragePools()):
        if thing.isActive():
            thing.destroy()
        thing.undefine()
    assert not left, f"left behind: {left}"
