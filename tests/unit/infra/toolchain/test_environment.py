from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from infra.toolchain import environment

FOLDER = Path("/var/lib/sampan-libvirt")
BIN = Path("/cache/pulumi-3/bin")


def variables(user: dict[str, str]) -> dict[str, str]:
    return environment.variables(BIN, Path("/venv/bin/python"), Path("/checkout"), "qemu:///own", FOLDER, user)


def test_what_a_bare_machine_gets() -> None:
    assert variables({"PATH": "/usr/bin:/bin"}) == {
        "PATH": "/cache/pulumi-3/bin:/usr/bin:/bin",
        "PYTHONPATH": "/checkout",
        "SAMPAN_PYTHON": "/venv/bin/python",
        "PULUMI_HOME": "/var/lib/sampan-libvirt/pulumi-home",
        "PULUMI_BACKEND_URL": "file:///var/lib/sampan-libvirt/state",
        "PULUMI_CONFIG_PASSPHRASE_FILE": "/var/lib/sampan-libvirt/passphrase",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
        "LIBVIRT_DEFAULT_URI": "qemu:///own",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("PULUMI_BACKEND_URL", "s3://states"), ("PULUMI_HOME", "/home/u/.pulumi"), ("PULUMI_SKIP_UPDATE_CHECK", "false")],
)
def test_what_the_user_has_set_wins(name: str, value: str) -> None:
    assert variables({name: value})[name] == value


@pytest.mark.parametrize("name", ["PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"])
def test_a_passphrase_of_the_user_is_not_overruled_by_ours(name: str) -> None:
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in variables({name: ""})


def test_in_a_pulumi_home_of_the_user_plugins_on_path_are_not_ignored() -> None:
    assert "PULUMI_IGNORE_AMBIENT_PLUGINS" not in variables({"PULUMI_HOME": "/home/u/.pulumi"})


def test_evaluated_twice_it_changes_nothing_more() -> None:
    once = variables({"PATH": "/usr/bin", "PYTHONPATH": "/mine"})
    again = variables(once)
    assert once["PYTHONPATH"] == "/checkout:/mine"
    # The passphrase file is the user's by then: it stays exported, so it need not be said again.
    assert again == {name: value for name, value in once.items() if name != "PULUMI_CONFIG_PASSPHRASE_FILE"}


def test_a_shell_reads_the_exports_back(tmp_path: Path) -> None:
    odd = {"A": "it's $HOME; `x`", "B": "two\nlines"}
    script = environment.shell(odd) + 'printf "%s|%s" "$A" "$B"'
    assert subprocess.check_output(["sh", "-c", script], text=True) == "it's $HOME; `x`|two\nlines"


def test_the_passphrase_is_made_once_and_for_root_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    environment.prepare(folder)
    file = folder / "passphrase"
    first = file.read_text()
    assert len(first.strip()) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "state").stat().st_mode) == 0o700
    environment.prepare(folder)
    assert file.read_text() == first
    assert [entry.name for entry in folder.glob(".*")] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_state_is_refused_here_and_not_by_pulumi_later() -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom infra.toolchain import environment, tools\n"
        "os.setuid(65534)\n"
        "try:\n    environment.prepare(Path(sys.argv[1]))\n"
        "except OSError as error:\n    print(tools.cannot_write(error))\n"
    )
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = Path(place, "roots")
        environment.prepare(folder)
        said = subprocess.check_output([sys.executable, "-c", script, str(folder)], text=True)
    assert said.startswith(f"{folder}/state: Permission denied\nRun as root")
