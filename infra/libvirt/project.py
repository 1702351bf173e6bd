"""Which Pulumi project and stack a lab is, and the folder in which Pulumi runs it.

A lab that was made is where lab.json says. Else a name that labs/ has is that folder's stack `dev`, so that
`./sampan up --backend libvirt --name minimal` and `pulumi up` in labs/minimal are the same; any other name is a stack
of the project `sampan`, in a folder of its own that is written here and could be used by hand as well.
Settings are changed by `pulumi config set`; what a stack is set to stays until it is set again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.libvirt import registry
from infra.libvirt.settings import NAMESPACE
from infra.toolchain import environment

ROOT = Path(__file__).resolve().parents[2]
LABS = ROOT / "labs"
PROJECTS = environment.FOLDER / "projects"
PROJECT = "sampan"
STACK = "dev"  # of a folder of labs/
PROGRAM = "from infra.libvirt.program import main\n\nmain()\n"


@dataclass(frozen=True)
class Project:
    folder: Path
    name: str
    stack: str

    @property
    def is_ours(self) -> bool:
        """Written by Sampan, not by a person."""
        return self.folder.parent == PROJECTS

    @property
    def settings_file(self) -> Path:
        return self.folder / f"Pulumi.{self.stack}.yaml"


def of(lab: str) -> Project:
    known = registry.read(lab)
    if known is not None and (Path(known.folder) / "Pulumi.yaml").exists():
        return Project(Path(known.folder), known.project, known.stack)
    if known is not None and known.project != PROJECT:  # the checkout has moved
        return Project(LABS / known.project.removeprefix(f"{PROJECT}-"), known.project, known.stack)
    if known is None and (LABS / lab / "Pulumi.yaml").exists():
        return Project(LABS / lab, f"{PROJECT}-{lab}", STACK)
    return Project(PROJECTS / lab, PROJECT, lab)


def write(project: Project) -> None:
    """The folder of a project of ours: two files, the same each time."""
    described: dict[str, Any] = {
        "name": project.name,
        "runtime": "python",
        "description": f"Lab {project.stack}, as ./sampan up --backend libvirt made it",
        "plugins": {"providers": [{"name": "libvirt", "path": str(ROOT / "infra/toolchain/plugins")}]},
    }
    project.folder.mkdir(parents=True, exist_ok=True)
    (project.folder / "Pulumi.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    (project.folder / "__main__.py").write_text(PROGRAM)


def remove(project: Project) -> None:
    """What `write` made; of a person's project nothing."""
    if project.is_ours:
        shutil.rmtree(project.folder, ignore_errors=True)


def differing(project: Project, wanted: Mapping[str, str]) -> dict[str, str]:
    """Of the wanted settings (`worker.memoryMib` is one) those that the stack's file has otherwise or not at all."""
    try:
        read = yaml.safe_load(project.settings_file.read_text()) or {}
    except FileNotFoundError:
        read = {}
    return {key: value for key, value in wanted.items() if str(_value(read.get("config") or {}, key)) != value}


def _value(config: Mapping[str, Any], key: str) -> object:
    first, _, rest = key.partition(".")
    value = config.get(f"{NAMESPACE}:{first}")
    return value.get(rest) if rest and isinstance(value, Mapping) else value
