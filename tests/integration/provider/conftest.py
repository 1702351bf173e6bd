"""A libvirtd of our own for each module, a libvirt connection to look behind Pulumi's back, and new stacks on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import host as machine
from infra.hypervisor import host
from infra.hypervisor.libvirtd import Libvirtd
from infra.provider import binding
from infra.toolchain import tools
from tests.integration.own_libvirtd import own_libvirtd
from tests.integration.provider.stacks import Stack

MAKE_TIMEOUT_S = 1800
NOT_THE_USERS = ("PULUMI_", "LIBVIRT_", "SAMPAN_")


@pytest.fixture(scope="session")
def toolchain(tmp_path_factory: pytest.TempPathFactory) -> tools.Tools:
    assert os.geteuid() == 0, "a libvirtd of our own needs root; run the tests as root"
    host.install_missing(print)
    if missing := machine.lacking({"xsltproc": "xsltproc"}):  # for properties `xml.xslt`
        machine.apt_install(missing)
    return tools.ensure(print, tmp_path_factory.mktemp("pulumi"))


@pytest.fixture(scope="module")
def libvirtd(toolchain: tools.Tools) -> Iterator[Libvirtd]:
    """Its networks are not reached from the host, so that any number of them may run at once."""
    with own_libvirtd() as made:
        yield made


@pytest.fixture(scope="module")
def connection(libvirtd: Libvirtd) -> Iterator[Any]:
    opened = binding.connect(libvirtd.uri)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def new_stack(
    toolchain: tools.Tools, libvirtd: Libvirtd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Stack]]:
    """Each call makes a stack in a project folder of its own; all are destroyed and removed at the end."""
    user = {name: value for name, value in os.environ.items() if not name.startswith(NOT_THE_USERS)}
    environment = user | toolchain.environment(libvirtd.uri, user)
    environment["SAMPAN_SHUTDOWN_TIMEOUT_S"] = "0.5"  # these guests have no system that would shut down
    environment["PULUMI_DEBUG_COMMANDS"] = "true"  # or there is no --event-log
    made: list[Stack] = []

    def new(name: str) -> Stack:
        stack = Stack(name, tmp_path_factory.mktemp(name) / "project", environment)
        stack.declare([])
        stack.command("stack", "init", "--no-select")
        made.append(stack)
        return stack

    yield new
    for stack in made:
        stack.command("destroy", "--yes", "--skip-preview", "--remove")


@pytest.fixture(scope="module")
def stack(new_stack: Callable[[str], Stack]) -> Stack:
    return new_stack("one")


@pytest.fixture(scope="module")
def wrong(new_stack: Callable[[str], Stack]) -> Stack:
    """For previews that fail: it stays empty."""
    return new_stack("wrong")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first makes the CLI where the machine has none: longer than a test may otherwise take."""
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(MAKE_TIMEOUT_S))
