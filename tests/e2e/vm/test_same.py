"""The kubectl tests of the local lab, against one of virtual machines."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.e2e.lab import ROOT

# What breaks a local lab's processes on purpose, or makes labs of its own, is left out.
SUITES = (
    "test_kubectl.py",
    "test_workloads.py",
    "test_network.py",
    "test_streams.py",
    "test_clients.py",
    "test_volumes.py",
)
LIMIT_S = 10800


@pytest.mark.wide
@pytest.mark.timeout(LIMIT_S)
def test_what_passes_on_a_local_lab_passes_on_machines() -> None:
    command = [sys.executable, "-m", "pytest", "-v", "-o", "timeout=1800", *(f"tests/e2e/{suite}" for suite in SUITES)]
    environment = os.environ | {"SAMPAN_TEST_BACKEND": "libvirt"}
    # Its words go where this test's own go, so that `-s` shows which one runs.
    assert subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
