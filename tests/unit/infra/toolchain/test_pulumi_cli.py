from __future__ import annotations

from pathlib import Path

import pytest

from infra.toolchain import cli_build, pulumi_cli, python_packages


def fake(folder: Path, says: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pulumi"
    file.write_text(f"#!/bin/sh\n{says}\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that has a CLI of ours already."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    entry = tmp_path / "cache/sampan" / f"pulumi-{cli_build.version()}"
    file = fake(entry / "bin", f"echo v{cli_build.version()}")
    (entry / "origin").write_text("built for this test\n")
    return file


def test_the_one_on_path_is_used_if_it_is_new_enough(tmp_path: Path, cached: Path) -> None:
    mine = fake(tmp_path / "usr", "echo v3.999.1-alpha.5")
    found = pulumi_cli.find(print, {"PATH": f"{cached.parent}:{mine.parent}"})
    assert found == pulumi_cli.Cli(mine, "3.999.1", "on PATH")


@pytest.mark.parametrize(
    ("says", "named"),
    [
        pytest.param("echo v3.100.0", "is Pulumi 3.100.0, older than 3.272.0", id="too-old"),
        pytest.param("echo v3.271.9", "is Pulumi 3.271.9, older than 3.272.0", id="just-too-old"),
        pytest.param("echo hello", "of no known version", id="something-else"),
        pytest.param("exit 3", "of no known version", id="broken"),
    ],
)
def test_one_on_path_that_will_not_do_is_named_and_ours_used(
    tmp_path: Path, cached: Path, says: str, named: str
) -> None:
    mine = fake(tmp_path / "usr", says)
    said: list[str] = []
    found = pulumi_cli.find(said.append, {"PATH": str(mine.parent)})
    assert found == pulumi_cli.Cli(cached, cli_build.version(), "built for this test")
    (line,) = said
    assert str(mine) in line
    assert named in line


def test_none_on_path_means_ours_without_a_word(tmp_path: Path, cached: Path) -> None:
    said: list[str] = []
    (tmp_path / "usr").mkdir()
    assert pulumi_cli.find(said.append, {"PATH": str(tmp_path / "usr")}).pulumi == cached
    assert said == []


def test_a_link_to_ours_is_ours(tmp_path: Path, cached: Path) -> None:
    link = tmp_path / "usr/pulumi"
    link.parent.mkdir()
    link.symlink_to(cached)
    assert pulumi_cli.on_path(str(link.parent), [tmp_path / "cache/sampan"]) is None


def test_the_oldest_that_will_do_is_as_old_as_the_sdk() -> None:
    sdk = python_packages.pinned(python_packages.LOCK.read_text())["pulumi"]
    assert pulumi_cli.dotted(pulumi_cli.OLDEST) == sdk
