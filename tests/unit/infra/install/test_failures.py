"""A step that fails is named with node, command and the end of what was said; the next run goes on from there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from infra.install import ssh, vm
from infra.install.connection import CommandError, File, SshError
from tests.unit.infra.install.test_plan import INSTALLED, NODE, WISH


@dataclass
class Fake:
    """A machine that is as wanted, but for `lacks`; the command that holds `fails` goes wrong."""

    lacks: str = ""
    fails: str = ""
    error: Exception | None = None
    problem: str = ""
    stopped: str = ""  # a unit
    ran: list[str] = field(default_factory=list)

    def run(self, command: Sequence[str], stdin: bytes | None = None) -> bytes:
        text = f"{' '.join(command)}\n{(stdin or b'').decode(errors='replace')}"
        if "def wait(" in text:
            return json.dumps({"problem": self.problem}).encode()
        if "def inputs(" in text:
            return json.dumps(self.facts()).encode()
        self.ran.append(command[0])
        if self.fails and self.fails in text:
            raise self.error or CommandError(NODE.name, command, 3, "line 1\nline 2")
        return b""

    def put(self, files: Sequence[File]) -> None:
        raise AssertionError("files travel with their step")

    def facts(self) -> dict[str, Any]:
        names = ("sha256", "mode", "user", "group")
        files = {path: dict(zip(names, seen, strict=True)) for path, seen in INSTALLED.files.items()}
        files.pop(self.lacks, None)
        return {
            "files": files,
            "folders": {path: list(owner) for path, owner in INSTALLED.folders.items()},
            "units": {
                name: {
                    "active": "failed" if name == self.stopped else "active",
                    "enabled": "enabled",
                    "inputs": seen.inputs,
                }
                for name, seen in INSTALLED.units.items()
            },
            "ours": list(INSTALLED.our_units),
            "accounts": "".join(f"{name}:x:{number}:\n" for name, number in INSTALLED.users.items()),
            "ranges": list(INSTALLED.ranges),
            "lingers": True,
            "settings": dict(INSTALLED.settings),
            "release": "",
            "releases": [],
            "python": INSTALLED.python,
            "system": 'ID=debian\nVERSION_ID="13"\n',
            "init": "systemd",
            "unified": True,
            "lacking": [],
        }


def test_nothing_to_do_is_nothing_done() -> None:
    machine, said = Fake(), list[str]()
    assert vm.install(machine, WISH, said.append) == ()
    assert (machine.ran, said) == ([], [])


def test_each_step_is_one_line_of_progress() -> None:
    machine, said = Fake(lacks="/etc/sampan/kubelet.yaml"), list[str]()
    assert vm.install(machine, WISH, said.append) == ("configuration (kubelet.yaml)",)
    assert said == ["worker-1: configuration (kubelet.yaml)"]


def test_what_components_wait_for_is_waited_for_between_their_start_and_their_health() -> None:
    said = list[str]()
    machine = Fake(stopped="sampan-kubelet.service", problem="it is not healthy")
    with pytest.raises(vm.InstallError, match="it is not healthy"):
        vm.install(machine, WISH, said.append, lambda: said.append("(waited)"))
    assert said == ["worker-1: starting kubelet", "(waited)"]


def test_a_failed_step_names_node_command_and_what_was_said() -> None:
    with pytest.raises(vm.InstallError) as caught:
        vm.install(Fake(lacks="/etc/sampan/kubelet.yaml", fails="tar --extract"), WISH, print)
    said = str(caught.value)
    assert said.startswith("node worker-1: step 'configuration (kubelet.yaml)' failed with exit code 3: line 1\nline 2")
    assert said.endswith("command:\n" + " ".join(vm.plan.UNTAR))


def test_no_key_is_shown_by_a_failed_step() -> None:
    with pytest.raises(vm.InstallError) as caught:
        vm.install(Fake(lacks="/etc/sampan/pki/kubelet.key", fails="tar --extract"), WISH, print)
    assert "PRIVATE KEY" not in str(caught.value)


def test_a_connection_that_breaks_is_said_with_its_step() -> None:
    machine = Fake(
        lacks="/etc/sampan/kubelet.yaml", fails="tar --extract", error=SshError("node worker-1: the connection broke")
    )
    with pytest.raises(vm.InstallError, match=r"step 'configuration .*the connection broke.*Run it again"):
        vm.install(machine, WISH, print)


def test_a_component_that_does_not_come_up_is_named() -> None:
    problem = "sampan-kubelet.service is failed; the end of its journal:\nno such setting"
    with pytest.raises(
        vm.InstallError, match=r"node worker-1: step 'health': sampan-kubelet\.service is failed"
    ) as caught:
        vm.install(Fake(problem=problem), WISH, print)
    assert str(caught.value).endswith("no such setting")


def test_a_command_may_complain_of_nothing_for_long() -> None:
    answers: list[bytes | Exception] = [TimeoutError(), b"at last", TimeoutError(), b""]

    def read(count: int) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    heard: list[bytes] = []
    ssh._listen(read, heard)
    assert heard == [b"at last"]
