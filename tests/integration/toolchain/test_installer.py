"""Pulumi's installer: a host of the test's own in its place, which answers, hangs, or answers something else."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.toolchain import installer

SCRIPT = """#!/bin/sh
set -e
[ "$1 $2 $3 $5" = "--version 9.9.9 --install-root --no-edit-path" ] || { echo "wrong arguments: $*" >&2; exit 2; }
mkdir -p "$4/bin"
echo noise
touch "$HOME/.profile"
for name in pulumi pulumi-language-python; do
    printf '#!/bin/sh\\necho v9.9.9\\n' >"$4/bin/$name"
    chmod +x "$4/bin/$name"
done
"""


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """A URL that answers with a body, after `release` is set where it is asked to hang."""
    release = threading.Event()
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(body: str, status: int = 200, *, hang: bool = False) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if hang:
                    release.wait(60)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                return None

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    release.set()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def curl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real script downloads with curl, so one has to be there."""
    program = tmp_path / "bin/curl"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_installer_brings_the_cli_and_its_companions(tmp_path: Path, serve: Callable[..., str]) -> None:
    url = serve(SCRIPT)
    said: list[str] = []
    place = tmp_path / "place"
    place.mkdir()
    assert installer.install(place, "9.9.9", said.append, url) == f"installed by Pulumi's installer ({url})"
    assert sorted(entry.name for entry in (place / "bin").iterdir()) == ["pulumi", "pulumi-language-python"]
    assert subprocess.check_output([place / "bin/pulumi"], text=True) == "v9.9.9\n"
    assert said == [f"installing Pulumi 9.9.9 with Pulumi's installer ({url})"]
    assert not (tmp_path / ".profile").exists()  # nothing is written into the user's home


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        pytest.param("#!/bin/sh\necho no such version >&2\nexit 1\n", "no such version", id="it-fails"),
        pytest.param("#!/bin/sh\n", "it left no bin/pulumi", id="it-does-nothing"),
    ],
)
def test_an_installer_that_fails_is_told_and_leaves_it_to_the_build(
    tmp_path: Path, serve: Callable[..., str], script: str, problem: str
) -> None:
    said: list[str] = []
    assert installer.install(tmp_path, "9.9.9", said.append, serve(script)) is None
    assert said[-1] == f"Pulumi's installer failed ({problem})"
    assert not (tmp_path / "bin/pulumi").exists()


def test_an_installer_that_never_ends_is_ended_with_all_that_it_started(
    tmp_path: Path, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "INSTALL_TIMEOUT_S", 1)
    said: list[str] = []
    url = serve(f"#!/bin/sh\nsleep 600 &\necho $! >{tmp_path}/pid\nwait\n")
    began = time.monotonic()
    assert installer.install(tmp_path, "9.9.9", said.append, url) is None
    assert time.monotonic() - began < 30
    assert said[-1] == "Pulumi's installer failed (not done after 1 s)"
    sleeper = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{sleeper}/cmdline").exists() and Path(f"/proc/{sleeper}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_block_page_is_not_run(serve: Callable[..., str]) -> None:
    assert installer.fetch(serve("<html>blocked</html>")) is None
    assert installer.fetch(serve("#!/bin/sh\n", status=403)) is None


def test_a_host_that_does_not_answer_costs_seconds(serve: Callable[..., str]) -> None:
    began = time.monotonic()
    assert installer.fetch(serve(SCRIPT, hang=True)) is None
    assert time.monotonic() - began < installer.PROBE_TIMEOUT_S + 5
    assert installer.fetch("http://127.0.0.1:1/") is None
    assert installer.fetch("http://no-such-host.invalid/") is None
