"""A run that changes nothing takes as long as what it imports: what only an installation needs is not among it."""

from __future__ import annotations

import subprocess
import sys


def test_the_program_and_its_plugin_import_no_ssh_and_no_client_of_the_network() -> None:
    script = "import sys, infra.libvirt.program; print([name for name in ('fabric', 'aiohttp') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]"
