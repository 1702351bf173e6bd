"""A program with a libvirt resource, by hand: no word of plugins in Pulumi.yaml, and virsh sees what it made."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.hypervisor.libvirtd import Libvirtd
from tests.integration.own_libvirtd import own_libvirtd
from tests.integration.toolchain.conftest import Project
from tests.integration.toolchain.test_plain_pulumi import UP

PROGRAM = """
import pulumi_libvirt
network = pulumi_libvirt.Network("net", name="by-hand", mode="none", addresses=["10.99.0.0/24"])
"""


@pytest.fixture
def libvirtd() -> Iterator[Libvirtd]:
    with own_libvirtd() as made:
        yield made


def test_what_pulumi_makes_virsh_shows(project: Project, libvirtd: Libvirtd) -> None:
    here = replace(project, environment={**project.environment, "LIBVIRT_DEFAULT_URI": libvirtd.uri})
    here.write(PROGRAM)
    assert "warning" not in here.run(*UP).stdout
    listed = subprocess.check_output(["virsh", "net-list", "--name"], env=here.environment, text=True)
    assert listed.split() == ["by-hand"]
    here.run(*UP, "--expect-no-changes")
    here.run("destroy", "--yes", "--skip-preview", "--stack=dev")
    assert subprocess.check_output(["virsh", "net-list", "--all", "--name"], env=here.environment).split() == []


def test_another_provider_can_be_chosen(project: Project, tmp_path: Path) -> None:
    """The upstream one, where somebody has it: the launcher starts what SAMPAN_LIBVIRT_PROVIDER names."""
    other = tmp_path / "upstream"
    other.write_text("#!/bin/sh\necho upstream was started >&2\nexit 3\n")
    other.chmod(0o755)
    here = replace(project, environment={**project.environment, "SAMPAN_LIBVIRT_PROVIDER": str(other)})
    here.write(PROGRAM)
    failed = here.run(*UP, check=False)
    assert failed.returncode != 0
    assert "upstream was started" in failed.stdout
