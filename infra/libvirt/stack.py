"""A lab's Pulumi stack through the automation API: the same program and the same state as `pulumi up` in its folder.

Imported when Pulumi's SDK is there (infra/up_libvirt.py sees to it). Errors: LabFailed with what the engine reported,
each error in its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pulumi import automation
from pulumi.automation import CommandError, ConfigValue, LocalWorkspace, LocalWorkspaceOptions, PulumiCommand
from pulumi.automation._stack import StackInitMode

from infra.libvirt import project as projects
from infra.libvirt.events import Line, Reader
from infra.libvirt.project import Project
from infra.libvirt.settings import NAMESPACE
from infra.toolchain import stack_files

Show = Callable[[Line], None]
LAST_LINES = 15


class LabFailed(RuntimeError):
    """An update ended with errors."""


class Stack(automation.Stack):
    """The SDK's, without what it asks after each update: three more runs of the CLI, each a quarter of a second."""

    def outputs(self) -> automation.OutputMap:
        return {}

    def info(self, show_secrets: bool = True) -> automation.UpdateSummary:
        return automation.UpdateSummary("", datetime.now(UTC), "", {}, {}, "")


def exists(backend_url: str, project: Project) -> bool:
    """Whether there is state, with a file:// backend; another kind is asked when it is used."""
    file = stack_files.stack_file(backend_url, project.name, project.stack)
    return file is None or file.exists()


def open_stack(project: Project, pulumi: Path) -> Stack:
    """Made where it is not there yet. `pulumi`: the CLI."""
    if project.is_ours:
        projects.write(project)
    command = PulumiCommand(str(pulumi.parent.parent), skip_version_check=True)
    workspace = LocalWorkspace(**vars(LocalWorkspaceOptions(work_dir=str(project.folder), pulumi_command=command)))
    return Stack(project.stack, workspace, StackInitMode.CREATE_OR_SELECT)


def configure(stack: Stack, project: Project, wanted: Mapping[str, str]) -> None:
    for key, value in projects.differing(project, wanted).items():
        stack.set_config(f"{NAMESPACE}:{key}", ConfigValue(value), path="." in key)


def forget_pending(stack: Stack) -> None:
    """Clear what the state says of operations that a killed command had begun. Whatever those made is adopted when it
    is made again (infra/provider by its marks, ours because each step looks first), and Pulumi would warn for ever."""
    exported = stack.export_stack()
    deployment = exported.deployment or {}
    if deployment.get("pending_operations"):
        kept = {**deployment, "pending_operations": []}
        stack.import_stack(automation.Deployment(version=exported.version, deployment=kept))


def up(stack: Stack, show: Show, *, refresh: bool = False) -> Reader:
    return _run(lambda reader: stack.up(on_event=reader, refresh=refresh, color="never"), show)


def destroy(stack: Stack, show: Show) -> Reader:
    """Everything of the stack, and then the stack itself with its backups (the SDK has no word for those)."""
    reader = _run(lambda reader: stack.destroy(on_event=reader, color="never"), show)
    workspace = stack.workspace
    remove = ["stack", "rm", stack.name, "--yes", "--remove-backups"]
    workspace.pulumi_command.run(remove, workspace.work_dir, workspace.env_vars)
    return reader


def _run(work: Callable[[Callable[[object], None]], object], show: Show) -> Reader:
    reader = Reader()

    def heard(event: object) -> None:
        for line in reader.read(event):
            show(line)

    try:
        work(heard)
    except CommandError as error:
        said = reader.errors or ["\n".join(str(error).strip().splitlines()[-LAST_LINES:])]
        raise LabFailed("\n".join(said)) from error
    return reader
