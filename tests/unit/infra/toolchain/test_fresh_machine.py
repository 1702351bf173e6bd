"""A machine that has only what the local lab needs: no command may fail for want of the VM lab's packages."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = ("pulumi", "pulumi_libvirt", "libvirt", "fabric", "paramiko", "grpc")


@pytest.mark.parametrize("module", ["infra.cli", "infra.up_libvirt", "infra.toolchain.command"])
def test_importing_needs_none_of_the_vm_labs_packages(module: str) -> None:
    script = f"import sys\nfor name in {BLOCKED!r}:\n    sys.modules[name] = None\nimport {module}\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["language_host", "dynamic_plugin", "plugin_process"])
def test_a_process_that_every_update_waits_for_loads_little(module: str) -> None:
    script = (
        f"import sys, infra.toolchain.{module}\n"
        "ours = sorted(name for name in sys.modules if name.partition('.')[0] in ('infra', 'orchestrator'))\n"
        "print(*ours)\n"
    )
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    few = {"infra", "infra.toolchain", "infra.toolchain.program", "infra.toolchain.plugin_process"}
    assert set(loaded) <= few | {f"infra.toolchain.{module}"}
