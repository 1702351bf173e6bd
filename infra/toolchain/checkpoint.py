"""The state file of a stack whose CLI was killed while it wrote it: a file:// backend writes in place, so it may be
empty or cut short ("failed to load checkpoint: EOF"). The one before lies beside it; what was made since is adopted.
The same goes for the attributes (NAME.attrs) that it writes beside each file, and can do without.
"""

from __future__ import annotations

import json
from pathlib import Path

from infra.toolchain import stack_files


def recover(backend_url: str, project: str, stack: str) -> bool:
    """Whether the state was broken and had to be put back. Other kinds of backend write whole or not at all."""
    file = stack_files.stack_file(backend_url, project, stack)
    if file is None:
        return False
    broken = [one for one in file.parent.glob(f"{file.name}*.attrs") if not _is_whole(one)]
    for attributes in broken:
        attributes.unlink()
    if not file.exists() or _is_whole(file):
        return bool(broken)
    before = file.with_name(f"{file.name}.bak")
    if _is_whole(before):
        new = file.with_name(f".{file.name}.new")
        new.write_bytes(before.read_bytes())
        new.rename(file)
    else:  # the very first write was cut short: nothing was made before it
        file.unlink()
    return True


def _is_whole(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True
