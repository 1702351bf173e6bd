"""What a file:// backend of Pulumi keeps of one stack: its state, the copy before it, tags, history, backups and locks,
with the attributes that it writes beside each file and what a killed write left (NAME.<hex>.tmp).

Other kinds of backend have no files here, and are left to Pulumi.
Source: pulumi/pkg/backend/diy (stackPath, HistoryDir, BackupDir, stackLockDir); gocloud.dev/blob/fileblob (createTemp).
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

FILE = "file://"
_FOLDERS = ("history", "backups", "locks/organization")
# After the stack's name: that is how another stack is told whose name only begins alike.
_SUFFIXES = re.compile(r"\.(json|pulumi-tags)(\.gz)?(\.bak)?(\.[0-9a-f]+\.tmp)?(\.attrs)?")


def stack_file(backend_url: str, project: str, stack: str) -> Path | None:
    """None with another kind of backend."""
    if not backend_url.startswith(FILE):
        return None
    return Path(backend_url.removeprefix(FILE), ".pulumi/stacks", project, f"{stack}.json")


def of_stack(backend_url: str, project: str, stack: str) -> list[Path]:
    """Files and folders of the stack that are there."""
    file = stack_file(backend_url, project, stack)
    if file is None:
        return []
    beside = [one for one in file.parent.glob("*") if _SUFFIXES.fullmatch(one.name.removeprefix(stack))]
    root = file.parents[2]
    folders = [root / name / project / stack for name in _FOLDERS]
    return sorted([*(one for one in beside if one.name.startswith(stack)), *(one for one in folders if one.is_dir())])


def forget(backend_url: str, project: str, stack: str) -> list[Path]:
    """Remove all of it, and the project's folders that are empty then; tells what was there."""
    found = of_stack(backend_url, project, stack)
    for one in found:
        if one.is_dir():
            shutil.rmtree(one)
        else:
            one.unlink()
    for folder in {one.parent for one in found}:
        if not any(folder.iterdir()):
            folder.rmdir()
    return found
