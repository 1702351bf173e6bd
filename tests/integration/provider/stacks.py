"""Pulumi stacks for tests of the provider: the real CLI, a program that makes what a list names, and what it then did.

run = stack.up([network("a", addresses=["10.1.0.0/24"])])
assert run.operations == {"a": "create"}
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("program") / "__main__.py"
PLUGINS = Path(__file__).resolve().parents[3] / "infra/toolchain/plugins"
COMMAND_TIMEOUT_S = 300
Declared = dict[str, Any]


def declare(kind: str, name: str, /, **properties: Any) -> Declared:
    """A resource as the program makes it; properties as the SDK spells them."""
    return {"type": kind, "name": name, "properties": properties}


@dataclass(frozen=True)
class Run:
    """What a command did. Operations: create, update, replace, delete, same; refresh's are those that it found."""

    code: int
    output: str
    operations: dict[str, str] = field(default_factory=dict)  # by the resource's name, without the stack itself
    changed: dict[str, set[str]] = field(default_factory=dict)  # paths of what differs, by the resource's name
    diagnostics: dict[str, str] = field(default_factory=dict)  # what was said of a resource, by its name

    @property
    def unlike_same(self) -> dict[str, str]:
        return {name: operation for name, operation in self.operations.items() if operation != "same"}


@dataclass(frozen=True)
class Stack:
    name: str
    folder: Path  # the project's
    environment: dict[str, str]

    def declare(self, resources: Sequence[Declared]) -> None:
        self.folder.mkdir(exist_ok=True)
        provider = {"name": "libvirt", "path": str(PLUGINS)}
        project = {"name": "provider", "runtime": "python", "plugins": {"providers": [provider]}}
        (self.folder / "Pulumi.yaml").write_text(json.dumps(project))  # a subset of YAML
        shutil.copyfile(PROGRAM, self.folder / "__main__.py")
        (self.folder / "resources.json").write_text(json.dumps(list(resources)))

    def up(self, resources: Sequence[Declared], *options: str, fails: bool = False) -> Run:
        self.declare(resources)
        return self.run("up", "--yes", "--skip-preview", *options, fails=fails)

    def preview(self, resources: Sequence[Declared], *options: str, fails: bool = False) -> Run:
        self.declare(resources)
        return self.run("preview", *options, fails=fails)

    def refresh(self) -> Run:
        return self.run("refresh", "--yes", "--skip-preview")

    def destroy(self) -> Run:
        return self.run("destroy", "--yes", "--skip-preview")

    def adopt(self, kind: str, name: str, id: str, *, code: bool = False) -> Run:
        """`pulumi import` of what is there. `code`: the CLI is asked for a program too, which fails."""
        token = f"libvirt:index/{kind[0].lower()}{kind[1:]}:{kind}"
        options = () if code else ("--generate-code=false",)
        return self.run("import", token, name, id, "--yes", "--skip-preview", "--protect=false", *options, fails=code)

    def forget(self, name: str) -> None:
        """Take a resource out of the state, as if its update had been killed before it was written."""
        urn = next(urn for urn in self.resources() if urn.endswith(f"::{name}"))
        self.command("state", "delete", urn, "--yes", "--force")

    def resources(self) -> dict[str, dict[str, Any]]:
        """The state, by URN, with secrets in clear."""
        exported = json.loads(self.command("stack", "export", "--show-secrets"))
        return {entry["urn"]: entry for entry in exported["deployment"].get("resources", [])}

    def state(self, name: str) -> dict[str, Any]:
        """Of one resource: id, inputs, outputs."""
        return next(entry for urn, entry in self.resources().items() if urn.endswith(f"::{name}"))

    def run(self, *arguments: str, fails: bool = False) -> Run:
        log = self.folder / "events.json"
        log.unlink(missing_ok=True)
        done = self._execute(*arguments, f"--event-log={log}")
        assert (done.returncode != 0) == fails, done.stdout
        assert "Traceback" not in done.stdout, done.stdout
        events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return _summary(done.returncode, done.stdout, events)

    def command(self, *arguments: str) -> str:
        done = self._execute(*arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self._line(*arguments), **self._options(), start_new_session=True)

    def _execute(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._line(*arguments), **self._options(), check=False, timeout=COMMAND_TIMEOUT_S)

    def _line(self, *arguments: str) -> list[str]:
        pulumi = shutil.which("pulumi", path=self.environment["PATH"])
        assert pulumi is not None
        return [pulumi, *arguments, f"--stack={self.name}", "--non-interactive", "--color=never"]

    def _options(self) -> dict[str, Any]:
        return {
            "cwd": self.folder,
            "env": self.environment,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
        }


def _summary(code: int, output: str, events: list[dict[str, Any]]) -> Run:
    run = Run(code, output)
    for event in events:
        if said := event.get("diagnosticEvent"):
            name = said.get("urn", "").rpartition("::")[2]
            run.diagnostics[name] = run.diagnostics.get(name, "") + said["message"]
        step = (event.get("resourcePreEvent") or event.get("resOutputsEvent") or {}).get("metadata")
        if step is None or step["type"] == "pulumi:pulumi:Stack" or step["type"].startswith("pulumi:providers:"):
            continue
        name, operation = step["urn"].rpartition("::")[2], step["op"]
        # A replacement comes as its three steps; the whole is what a case asks about.
        if operation.endswith("-replacement") or operation in ("create-replacement", "delete-replaced"):
            operation = "replace"
        if run.operations.get(name) != "replace":
            run.operations[name] = operation
        run.changed.setdefault(name, set()).update(step.get("detailedDiff") or {})
    return run
