"""On a fresh machine ./sampan's environment has no Pulumi: every command must start, the first VM lab installs it."""

from __future__ import annotations

import subprocess
import sys

from infra.images.cache import ROOT

ABSENT = ("pulumi", "pulumi_libvirt", "grpc", "google.protobuf", "libvirt")
PROGRAM = f"""
import sys
for name in {ABSENT!r}:
    sys.modules[name] = None
from infra import cli
assert cli.app
"""


def test_the_command_starts_without_what_only_machines_need() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
