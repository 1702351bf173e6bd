"""The programs that run on a machine, run here: with files of the test, and a `systemctl` that says what it is told."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from infra.install import facts

SYSTEMCTL = """\
#!{python}
import json, sys
states = json.load(open("{states}"))
blocks = []
for name in (word for word in sys.argv[1:] if not word.startswith("-") and word != "show"):
    seen = dict(states.get(name, {{"ActiveState": "inactive"}}), Id=name)
    blocks.append("\\n".join(f"{{key}}={{value}}" for key, value in seen.items()))
print("\\n\\n".join(blocks))
"""


class Machine:
    def __init__(self, folder: Path) -> None:
        self.folder, self.states = folder, folder / "states.json"
        self.states.write_text("{}")
        (folder / "bin").mkdir()
        self.program("systemctl", SYSTEMCTL.format(python=sys.executable, states=self.states))
        self.program("journalctl", "#!/bin/sh\necho journal of $2\n")

    def program(self, name: str, text: str) -> None:
        (self.folder / "bin" / name).write_text(text)
        (self.folder / "bin" / name).chmod(0o755)

    def unit(self, name: str, **seen: str) -> None:
        known = json.loads(self.states.read_text())
        self.states.write_text(json.dumps({**known, name: seen}))

    def run(self, program: str, wish: dict[str, Any]) -> bytes:
        environment = {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        return subprocess.run(
            facts.program(program), input=json.dumps(wish).encode(), capture_output=True, check=True, env=environment
        ).stdout

    def observe(self, **wish: list[str]) -> facts.Facts:
        nothing: dict[str, list[str]] = {"paths": [], "folders": [], "units": [], "settings": [], "programs": []}
        return facts.parse(self.run("observe", nothing | wish))

    def health(self, units: list[str], checks: dict[str, str], limit_s: float = 0.0) -> str:
        return str(json.loads(self.run("health", {"units": units, "checks": checks, "limit_s": limit_s}))["problem"])


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_files_and_folders_are_seen_with_owner_and_mode(machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a")
    file.chmod(0o600)
    os.chown(file, 4_194_304, 990)
    (tmp_path / "link").symlink_to(file)
    seen = machine.observe(
        paths=[str(file), f"{tmp_path}/link", f"{tmp_path}/none"], folders=[str(tmp_path), str(file)]
    )
    digest = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    assert dict(seen.files) == {str(file): (digest, 0o600, 4_194_304, 990)}
    assert list(seen.folders) == [str(tmp_path)]


def test_a_running_process_tells_of_what_it_was_started(machine: Machine) -> None:
    running = subprocess.Popen(["sleep", "60"], env={"SAMPAN_INPUTS": "of-this"})
    try:
        machine.unit("sampan-a.service", ActiveState="active", UnitFileState="enabled", MainPID=str(running.pid))
        seen = machine.observe(units=["sampan-a.service", "sampan-b.service"])
    finally:
        running.kill()
        running.wait()
    assert seen.units["sampan-a.service"] == facts.SeenUnit(is_active=True, is_enabled=True, inputs="of-this")
    assert seen.units["sampan-b.service"] == facts.SeenUnit(is_active=False, is_enabled=False, inputs="")


def test_settings_programs_and_users_are_seen(machine: Machine) -> None:
    seen = machine.observe(settings=["kernel/ostype", "no/such"], programs=["sh", "no-such-program"])
    assert dict(seen.settings) == {"kernel/ostype": "Linux", "no/such": ""}
    assert seen.lacking == ("no-such-program",)
    assert seen.users["root"] == 0


def test_all_is_well(machine: Machine, tmp_path: Path) -> None:
    machine.unit("a.service", ActiveState="active")
    with socket.socket(socket.AF_UNIX) as local, socket.create_server(("127.0.0.1", 0)) as port:
        local.bind(str(tmp_path / "socket"))
        local.listen()
        endpoints = (f"{tmp_path}/socket", f"tcp://127.0.0.1:{port.getsockname()[1]}")
        assert machine.health(["a.service"], dict.fromkeys(endpoints, "a.service")) == ""


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        pytest.param({"ActiveState": "activating"}, "a.service is activating", id="not-yet"),
        pytest.param({"ActiveState": "failed"}, "a.service is failed", id="failed"),
    ],
)
def test_a_unit_that_is_not_active_is_named_with_its_journal(seen: dict[str, str], says: str, machine: Machine) -> None:
    machine.unit("a.service", **seen)
    problem = machine.health(["a.service"], {})
    assert problem.startswith(says)
    assert problem.endswith("journal of a.service")


def test_an_endpoint_that_does_not_answer_is_named_with_its_units_journal(machine: Machine, tmp_path: Path) -> None:
    for name in ("a.service", "b.service"):
        machine.unit(name, ActiveState="active")
    problem = machine.health(["a.service", "b.service"], {f"{tmp_path}/nobody": "b.service"})
    assert f"{tmp_path}/nobody: " in problem
    assert problem.endswith("journal of b.service")


def test_what_has_failed_is_not_waited_for(machine: Machine) -> None:
    machine.unit("a.service", ActiveState="failed")
    started = time.monotonic()
    assert "a.service is failed" in machine.health(["a.service"], {}, limit_s=300)
    assert time.monotonic() - started < 60


def test_what_dies_again_and_again_is_not_waited_for(machine: Machine) -> None:
    """It is active now and then, and its restarts tell: the counter goes up at every look."""
    counter = machine.folder / "counter"
    counter.write_text("0")
    machine.program(
        "systemctl",
        f"#!/bin/sh\nn=$(cat {counter}); echo $((n + 1)) > {counter}\n"
        "printf 'Id=a.service\\nActiveState=activating\\nNRestarts=%s\\n' $n\n",
    )
    assert "started again 6 times" in machine.health(["a.service"], {}, limit_s=300)
