"""Plain `pulumi` with a Python program, in the shell that Sampan sets up: every part of it from a package registry."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.toolchain import stack_lock
from tests.integration.toolchain.conftest import Project

PROGRAM = """
import pathlib, time
import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

class DiskFull(RuntimeError):
    pass

class Notes(ResourceProvider):
    def create(self, properties):
        if properties["text"] == "too much":
            raise DiskFull("no room for the note: free some")
        if properties["text"] == "nonsense":
            return {}["nothing"]
        if wait := properties.get("wait"):
            pathlib.Path(wait, "started").touch()
            while not pathlib.Path(wait, "go").exists():
                time.sleep(0.02)
        return CreateResult("note-1", {**properties, "made": "once"})

    def diff(self, _id, olds, news):
        return DiffResult(changes=olds["text"] != news["text"])

    def update(self, _id, olds, news):
        return UpdateResult({**news, "made": "again"})

class Note(Resource):
    made: pulumi.Output[str]
    text: pulumi.Output[str]
    def __init__(self, name, text, wait=None):
        super().__init__(Notes(), name, {"text": text, "wait": wait, "made": None})

config = pulumi.Config()
note = Note("note", config.get("text") or "hello", config.get("wait"))
pulumi.export("made", note.made)
pulumi.export("text", note.text)
pulumi.export("password", config.get_secret("password"))
pulumi.export("names", [pulumi.get_project(), pulumi.get_stack(), pulumi.get_organization()])
"""
UP = ("up", "--yes", "--skip-preview", "--stack=dev")
LIMIT_S = 60.0


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {LIMIT_S} s: {what}"
        time.sleep(0.02)


def descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pids: set[int]) -> set[int]:
    def is_running(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return {pid for pid in pids if is_running(pid)}


def test_a_stack_from_up_to_destroy(project: Project) -> None:
    project.write(PROGRAM)
    project.run("config", "set", "--secret", "password", "hunter-2-in-clear", "--stack=dev")
    assert "2 to create" in project.run("preview", "--stack=dev").stdout
    created = project.run(*UP).stdout
    assert "2 created" in created
    assert "warning" not in created  # of plugins on PATH, of a newer version, of anything
    assert project.outputs() == {
        "made": "once",
        "text": "hello",
        "password": "hunter-2-in-clear",
        "names": ["small", "dev", "organization"],
    }
    project.run(*UP, "--expect-no-changes")
    project.run("config", "set", "text", "changed", "--stack=dev")
    assert "[diff: ~text]" in project.run("preview", "--stack=dev").stdout
    project.run(*UP)
    assert project.outputs()["made"] == "again"
    project.run("refresh", "--yes", "--stack=dev", "--expect-no-changes")
    assert "2 deleted" in project.run("destroy", "--yes", "--skip-preview", "--stack=dev").stdout
    kept = [file for file in project.state.rglob("*") if file.is_file()]
    assert kept
    assert not any(b"hunter-2-in-clear" in file.read_bytes() for file in kept)


def test_a_program_may_be_a_file_and_await_its_outputs(project: Project) -> None:
    (project.folder / "code").mkdir(parents=True)
    (project.folder / "code/beside.py").write_text("VALUE = 42\n")
    (project.folder / "code/program.py").write_text(
        "import os, sys, pulumi, beside\n"
        "pulumi.export('value', beside.VALUE)\n"
        "pulumi.export('folder', os.path.basename(os.getcwd()))\n"
        "print('said on the way')\n"
    )
    project.write("raise SystemExit('the wrong one')\n", main="code/program.py")
    assert "said on the way" in project.run(*UP).stdout
    assert project.outputs() == {"value": 42, "folder": "code"}


@pytest.mark.parametrize(
    ("addition", "said", "unsaid"),
    [
        pytest.param(
            "raise pulumi.RunError('workers: -1 is less than 0')",
            "error: workers: -1 is less than 0",
            "Traceback",
            id="an-error-for-the-user",
        ),
        pytest.param("{}['key']", "KeyError: 'key'", "runpy", id="a-mistake-of-the-program"),
        pytest.param("import os; os._exit(7)", "ended with exit code 7", "Traceback", id="an-early-exit"),
        pytest.param(
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended with signal 9", "Traceback", id="killed"
        ),
        pytest.param("import nonexistent", "No module named 'nonexistent'", "runpy", id="a-missing-module"),
        pytest.param("def f(:", "SyntaxError", "Resource monitor", id="a-syntax-error"),
    ],
)
def test_what_a_failing_program_tells(project: Project, addition: str, said: str, unsaid: str) -> None:
    project.write(f"import pulumi\n{addition}\n")
    done = project.run(*UP, check=False)
    assert done.returncode != 0
    assert said in done.stdout
    assert unsaid not in done.stdout


@pytest.mark.parametrize(
    ("text", "said", "unsaid"),
    [
        pytest.param("too much", "error: no room for the note: free some", "Traceback", id="raised-for-the-user"),
        pytest.param("nonsense", "KeyError: 'nothing'", "Resource monitor", id="a-mistake"),
    ],
)
def test_what_a_failing_dynamic_resource_tells(project: Project, text: str, said: str, unsaid: str) -> None:
    project.write(PROGRAM)
    project.run("config", "set", "text", text, "--stack=dev")
    done = project.run(*UP, check=False)
    assert done.returncode != 0
    assert said in done.stdout
    assert unsaid not in done.stdout


def test_a_virtual_environment_of_the_project_is_used(project: Project, tmp_path: Path) -> None:
    options = {"name": "python", "options": {"virtualenv": "own"}}
    project.write("import sys, pulumi\npulumi.export('prefix', sys.prefix)\n", runtime=options)
    done = project.run(*UP, check=False)
    assert "runtime.options.virtualenv is 'own', but there is no" in done.stdout
    own = project.folder / "own"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", own], check=True)
    (site,) = own.glob("lib/python3*/site-packages")
    (ours,) = {str(Path(entry)) for entry in sys.path if entry.endswith("site-packages") and sys.prefix in entry}
    (site / "ours.pth").write_text(ours + "\n")
    project.run(*UP)
    assert project.outputs() == {"prefix": str(own)}


def test_pulumi_about_and_install_know_the_interpreter(project: Project) -> None:
    project.write("")
    about = json.loads(project.run("about", "--json", "--stack=dev").stdout)
    assert about["runtime"]["executable"] == sys.executable
    assert "grpcio" in {entry["name"] for entry in about["dependencies"]}
    (project.folder / "requirements.txt").write_text("pulumi\n")
    assert "Requirement already satisfied: pulumi" in project.run("install").stdout
    (project.folder / "requirements.txt").write_text("--index-url=file:///nonexistent\nno-such-package\n")
    failed = project.run("install", check=False)
    assert failed.returncode != 0
    assert "exit code 1" in failed.stdout


def test_a_killed_cli_leaves_no_process_and_the_next_one_finishes(project: Project, tmp_path: Path) -> None:
    project.write(PROGRAM)
    project.run("config", "set", "wait", str(tmp_path), "--stack=dev")
    cli = project.start(*UP, log=tmp_path / "log")
    eventually((tmp_path / "started").exists, "the dynamic resource is being created")
    plugins = descendants(cli.pid)
    assert len(plugins) >= 3  # language host, program, dynamic provider
    cli.kill()
    cli.wait()
    eventually(lambda: not alive(plugins), f"the plugins {plugins} end")
    (tmp_path / "go").touch()
    locked = project.run(*UP, check=False).stdout
    assert "the stack is currently locked by 1 lock(s)" in locked
    url = project.environment["PULUMI_BACKEND_URL"]
    assert [lock.pid for lock in stack_lock.release_stale(url, "small", "dev")] == [cli.pid]
    assert "created" in project.run(*UP).stdout
    assert project.outputs()["made"] == "once"


def test_a_killed_cli_by_pulumis_own_commands(project: Project, tmp_path: Path) -> None:
    """As labs/cluster/README.md says it: cancel, up, and the warning of pending operations cleared."""
    project.write(PROGRAM)
    project.run("config", "set", "wait", str(tmp_path), "--stack=dev")
    cli = project.start(*UP, log=tmp_path / "log")
    eventually((tmp_path / "started").exists, "the dynamic resource is being created")
    plugins = descendants(cli.pid)
    cli.kill()
    cli.wait()
    eventually(lambda: not alive(plugins), f"the plugins {plugins} end")
    (tmp_path / "go").touch()
    assert "delete the lock file with `pulumi cancel`" in project.run(*UP, check=False).stdout
    project.run("cancel", "--yes", "--stack=dev")
    said = project.run(*UP).stdout
    assert "1 pending operations" in said
    assert "created" in said
    project.run("refresh", "--yes", "--skip-preview", "--clear-pending-creates", "--stack=dev")
    assert "pending" not in project.run(*UP).stdout


@pytest.mark.parametrize("times", [1, 2], ids=["once-it-finishes-the-step", "twice-it-drops-it"])
def test_an_interrupted_update_ends_without_a_traceback(project: Project, tmp_path: Path, times: int) -> None:
    project.write(PROGRAM)
    project.run("config", "set", "wait", str(tmp_path), "--stack=dev")
    log = tmp_path / "log"
    cli = project.start(*UP, log=log)
    eventually((tmp_path / "started").exists, "the dynamic resource is being created")
    plugins = descendants(cli.pid)
    os.killpg(cli.pid, signal.SIGINT)  # as a terminal does
    eventually(lambda: "cancel" in log.read_text().lower() or cli.poll() is not None, "it says that it stops")
    if times == 2:
        os.killpg(cli.pid, signal.SIGINT)
    else:
        (tmp_path / "go").touch()
    assert cli.wait(LIMIT_S) != 0
    eventually(lambda: not alive(plugins), f"the plugins {plugins} end")
    assert "Traceback" not in log.read_text()
    assert "KeyboardInterrupt" not in log.read_text()


def test_virsh_works_in_the_same_shell(shell: dict[str, str]) -> None:
    assert subprocess.check_output(["virsh", "list", "--name"], env=shell, text=True).split() == ["test"]
