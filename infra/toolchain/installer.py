"""Pulumi's own installer, where its host can be reached. Where it cannot, that is found out in seconds.

Source: https://www.pulumi.com/docs/install/, "Installation script": options --version, --install-root, --no-edit-path.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from infra.images.tree import Progress

SCRIPT = "https://get.pulumi.com/"
PROBE_TIMEOUT_S = 5
INSTALL_TIMEOUT_S = 300  # some 120 MB
# A process of its own: name resolution knows no timeout that can be set from within.
FETCH = "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=4).read())"


def install(place: Path, version: str, say: Progress, script: str | None = None) -> str | None:
    """Put the CLI and its companions into place/bin and say where they are from; None where that is not possible."""
    script = script or SCRIPT
    text = fetch(script)
    if text is None:
        return None
    say(f"installing Pulumi {version} with Pulumi's installer ({script})")
    with tempfile.TemporaryDirectory(prefix="sampan-pulumi-") as folder:
        file = Path(folder, "install.sh")
        file.write_bytes(text)
        root = Path(folder, "root")
        command = ["sh", str(file), "--version", version, "--install-root", str(root), "--no-edit-path"]
        problem = _run(command, {**os.environ, "HOME": folder})  # it writes nothing to the user's
        if not problem and not (root / "bin/pulumi").is_file():
            problem = "it left no bin/pulumi"
        if problem:
            say(f"Pulumi's installer failed ({problem})")
            return None
        shutil.copytree(root / "bin", place / "bin", symlinks=True)
    return f"installed by Pulumi's installer ({script})"


def _run(command: list[str], environment: dict[str, str]) -> str:
    """What went wrong, or nothing. A session of its own, so that what it started ends with it."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=INSTALL_TIMEOUT_S)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return f"not done after {INSTALL_TIMEOUT_S} s"
        raise
    return "" if process.returncode == 0 else output.strip()[-400:] or f"exit code {process.returncode}"


def fetch(url: str) -> bytes | None:
    """The installer's text, or None if its host does not give one soon."""
    if shutil.which("curl") is None:  # the script itself needs it
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", FETCH, url],
            capture_output=True,
            check=False,
            timeout=PROBE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return None
    # A captive portal or a proxy's block page answers too, in HTML.
    return done.stdout if done.returncode == 0 and done.stdout.startswith(b"#!") else None
