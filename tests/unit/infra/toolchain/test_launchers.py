from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from infra.toolchain import launchers
from infra.toolchain.launchers import DYNAMIC_PROVIDER, LANGUAGE_HOST, LIBVIRT_PROVIDER

COMMITTED = Path(__file__).resolve().parents[4] / "infra/toolchain/plugins" / LIBVIRT_PROVIDER


def executable(file: Path, text: str = "#!/bin/sh\n") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


def start(file: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = {"PATH": os.environ["PATH"]}
    return subprocess.run([file, "127.0.0.1:1"], env=path | variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", [LANGUAGE_HOST, DYNAMIC_PROVIDER, LIBVIRT_PROVIDER])
def test_a_launcher_starts_the_module_with_its_arguments(tmp_path: Path, name: str) -> None:
    python = executable(tmp_path / "python", '#!/bin/sh\necho "$@"\n')
    launchers.write(tmp_path / name)
    done = start(tmp_path / name, SAMPAN_PYTHON=str(python))
    assert done.stdout == f"-P -u -m {launchers.MODULES[name]} 127.0.0.1:1\n"


def test_a_launcher_in_a_shell_that_was_not_set_up_says_how_to(tmp_path: Path) -> None:
    launchers.write(tmp_path / LANGUAGE_HOST)
    done = start(tmp_path / LANGUAGE_HOST)
    assert done.returncode != 0
    assert 'eval "$(./sampan toolchain --shell)"' in done.stderr


@pytest.mark.parametrize("committed", [True, False], ids=["of-the-checkout", "written"])
def test_the_upstream_provider_can_be_chosen(tmp_path: Path, committed: bool) -> None:
    upstream = executable(tmp_path / "upstream", '#!/bin/sh\necho upstream "$@"\n')
    file = COMMITTED if committed else tmp_path / LIBVIRT_PROVIDER
    if not committed:
        launchers.write(file)
    assert start(file, SAMPAN_LIBVIRT_PROVIDER=str(upstream)).stdout == "upstream 127.0.0.1:1\n"


def test_the_launcher_of_the_checkout_needs_nothing_of_the_environment(tmp_path: Path) -> None:
    """It is what Pulumi.yaml names, for shells that nobody has set up."""
    checkout = tmp_path / "checkout"
    python = executable(checkout / ".venv/bin/python", '#!/bin/sh\necho "$PYTHONPATH" "$@"\n')
    copy = executable(checkout / "infra/toolchain/plugins" / LIBVIRT_PROVIDER, COMMITTED.read_text())
    assert python.exists()
    assert start(copy).stdout == f"{checkout} -P -u -m infra.provider 127.0.0.1:1\n"
    assert os.access(COMMITTED, os.X_OK)


def test_a_cli_with_its_companions_is_linked_and_keeps_them(tmp_path: Path) -> None:
    pulumi = executable(tmp_path / "official/pulumi")
    for name in (LANGUAGE_HOST, DYNAMIC_PROVIDER):
        executable(pulumi.parent / name)
    folder = tmp_path / "bin"
    launchers.install(pulumi, folder)
    assert (folder / "pulumi").resolve() == pulumi
    assert sorted(entry.name for entry in folder.iterdir()) == ["pulumi", LIBVIRT_PROVIDER]


def test_a_cli_without_companions_stands_beside_ours(tmp_path: Path) -> None:
    """A link would not do: the CLI looks where its file really is, and warns of what it finds on PATH instead."""
    pulumi = executable(tmp_path / "lone/pulumi")
    folder = tmp_path / "bin"
    launchers.install(pulumi, folder)
    assert not (folder / "pulumi").is_symlink()
    assert (folder / "pulumi").samefile(pulumi)
    names = [LANGUAGE_HOST, "pulumi", LIBVIRT_PROVIDER, DYNAMIC_PROVIDER]
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(names)
    assert [entry.name for entry in pulumi.parent.iterdir()] == ["pulumi"]


def test_ours_in_the_cache_gets_launchers_beside_it_and_they_do_not_pass_for_official_ones(tmp_path: Path) -> None:
    pulumi = executable(tmp_path / "bin/pulumi")
    launchers.install(pulumi, pulumi.parent)
    assert launchers.companions(pulumi) == ()
    before = {entry.name: entry.stat().st_ino for entry in pulumi.parent.iterdir()}
    launchers.install(pulumi, pulumi.parent)
    assert {entry.name: entry.stat().st_ino for entry in pulumi.parent.iterdir()} == before


def test_another_cli_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    launchers.install(executable(tmp_path / "lone/pulumi", "#!/bin/sh\necho old\n"), folder)
    official = executable(tmp_path / "official/pulumi", "#!/bin/sh\necho new\n")
    for name in (LANGUAGE_HOST, DYNAMIC_PROVIDER):
        executable(official.parent / name)
    launchers.install(official, folder)
    assert subprocess.check_output([folder / "pulumi"], text=True) == "new\n"
    assert not (folder / LANGUAGE_HOST).exists()
    launchers.install(tmp_path / "lone/pulumi", folder)
    assert subprocess.check_output([folder / "pulumi"], text=True) == "old\n"
    assert (folder / LANGUAGE_HOST).exists()
