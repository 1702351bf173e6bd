"""A shell in which Pulumi works, as `sampan toolchain --shell` sets it up, with state and passphrase of the test's own.

The CLI is the machine's: from PATH or the cache, made once if it is in neither, which takes minutes. libvirt is its own
test driver here, which needs no libvirtd: what real libvirt does is shown in tests/integration/provider.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
MAKE_TIMEOUT_S = 1800


@dataclass(frozen=True)
class Project:
    """A Pulumi project in a folder, with stack `dev`, as a person in a shell has it."""

    folder: Path
    environment: dict[str, str]
    state: Path

    def write(self, program: str, **pulumi_yaml: Any) -> None:
        self.folder.mkdir(exist_ok=True)
        project = {"name": "small", "runtime": "python", **pulumi_yaml}
        (self.folder / "Pulumi.yaml").write_text(json.dumps(project))  # YAML's subset
        (self.folder / "__main__.py").write_text(program)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`pulumi …` on stack dev; both of its outputs come as stdout."""
        done = subprocess.run(self.line(*arguments), **self.options(), text=True, check=False)
        assert not check or done.returncode == 0, done.stdout
        return done

    def start(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            return subprocess.Popen(
                self.line(*arguments), **self.options() | {"stdout": output}, start_new_session=True
            )

    def line(self, *arguments: str) -> list[str]:
        command = shutil.which("pulumi", path=self.environment["PATH"])
        assert command is not None
        return [command, *arguments, "--non-interactive", "--color=never"]

    def options(self) -> dict[str, Any]:
        return {
            "cwd": self.folder,
            "env": self.environment,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
        }

    def outputs(self) -> dict[str, Any]:
        return json.loads(self.run("stack", "output", "--json", "--show-secrets", "--stack=dev").stdout)


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment after `eval "$(./sampan toolchain --shell)"`."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "passphrase").write_text("a passphrase")
    (folder / "state").mkdir()
    user = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "LIBVIRT_"))}
    user |= {
        "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(folder / "passphrase"),
        "LIBVIRT_DEFAULT_URI": "test:///default",
        "PYTHONPATH": str(ROOT),
    }
    script = f'exports=$({sys.executable} -m infra.cli toolchain --shell) && eval "$exports" && env -0'
    done = subprocess.run(["sh", "-c", script], env=user, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    yield dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if entry)


@pytest.fixture
def project(shell: dict[str, str], tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project", shell, Path(shell["PULUMI_BACKEND_URL"].removeprefix("file://")))
    made.write("")
    made.run("stack", "init", "dev", "--no-select")
    yield made
    made.run("stack", "rm", "dev", "--yes", "--force", check=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever test comes first makes the CLI where no machine's is: longer than a test may otherwise take."""
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(MAKE_TIMEOUT_S))
