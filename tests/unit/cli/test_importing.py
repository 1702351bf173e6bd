"""Imports are quick, and leave everything as it was."""

from __future__ import annotations

import gc
import os
import ssl
import subprocess
import sys

import pytest

from orchestrator.cli import importing


@pytest.mark.parametrize("before", [None, "/etc/authorities.pem"])
def test_everything_is_as_it_was(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    monkeypatch.delenv(importing.AUTHORITIES, raising=False)
    if before:
        monkeypatch.setenv(importing.AUTHORITIES, before)
    with pytest.raises(ImportError), importing.quickly():
        assert not gc.isenabled()
        with importing.quickly():
            pass
        assert not gc.isenabled()
        assert ssl.create_default_context().cert_store_stats()["x509_ca"] == 0
        raise ImportError
    assert gc.isenabled()
    assert os.environ.get(importing.AUTHORITIES) == before


def test_a_component_begins_with_no_authorities_read() -> None:
    script = """
import ssl
read = []
made = ssl.SSLContext.load_default_certs
def noted(self, *arguments):
    made(self, *arguments)
    read.append(self.cert_store_stats()["x509_ca"])
ssl.SSLContext.load_default_certs = noted
from orchestrator.cli import app, process
try:
    process.load("api-server", "/nowhere")
except app.SettingsError:
    pass
import gc, os
assert gc.isenabled() and gc.get_freeze_count() > 10_000 and "SSL_CERT_FILE" not in os.environ
assert read and not any(read), read
"""
    environment = {name: value for name, value in os.environ.items() if name != importing.AUTHORITIES}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
