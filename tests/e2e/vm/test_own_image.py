"""A lab of a user's own Debian cloud image: what that lacks of ours is installed over SSH."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.lab import eventually
from tests.e2e.vm.machines import VmLab, leftovers
from tests.integration.vm import cloud_image

pytestmark = [pytest.mark.wide, pytest.mark.timeout(3600)]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[VmLab]:
    made = VmLab(f"cloud{os.getpid()}", tmp_path / "kubeconfig")
    try:
        yield made
    finally:
        made.sampan("down", "--name", made.name, timeout_s=900)


def test_a_cloud_image_becomes_a_node(lab: VmLab) -> None:
    lab.prepare()
    lab.pulumi_at_project("config", "set", "sampan:image", str(cloud_image.image()))
    said = lab.up("--backend", "libvirt", "--workers", "0").replace("\n", " ")
    assert "node control-plane-1 is Ready" in said
    assert "podman" in lab.sampan("ssh", "--name", lab.name, "control-plane-1", "podman", "--version")
    lab.kubectl("run", "web", "--image=nginx:1")
    lab.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=300s", timeout_s=310)
    assert "is Ready" not in lab.up()
    eventually(lambda: lab.kubectl("get", "--raw", "/readyz") == "ok", "the API")
    topology = lab.topology
    lab.sampan("down", "--name", lab.name, timeout_s=900)
    assert leftovers(lab, topology) == []
