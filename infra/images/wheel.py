"""Our own code as a wheel: `orchestrator`, `infra` and `templates`, as they lie in a checkout.

Written here rather than by a build tool, so that equal files give an equal wheel: entries sorted, one date, fixed
modes. Unpacked (it is a zip) it is a folder for sys.path; pip installs it as well. The version's local part is the hash
of the files.
Source: PEP 427 (wheel), PEP 440 (local versions), PEP 376 (RECORD).
"""

from __future__ import annotations

import base64
import hashlib
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.images import cache

DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


def wheel() -> Path:
    """In the cache, made if it is not there: `wheel-HASH/sampan-VERSION+HASH-py3-none-any.whl`."""
    files = {str(file.relative_to(cache.ROOT)): file.read_bytes() for file in cache.code_files()}
    project = tomllib.loads((cache.ROOT / "pyproject.toml").read_text())["project"]
    version = f"{project['version']}+{content_hash(files, metadata(project, ''))}"
    name = f"{project['name']}-{version}"
    place = cache.once(
        f"wheel-{version.partition('+')[2]}",
        lambda folder: write(
            folder / f"{name}-py3-none-any.whl", contents(files, f"{name}.dist-info", metadata(project, version))
        ),
    )
    return place / f"{name}-py3-none-any.whl"


def content_hash(files: Mapping[str, bytes], described: str) -> str:
    total = hashlib.sha256(described.encode())
    for path, data in sorted(files.items()):
        total.update(f"\0{path}\0{len(data)}\0".encode() + data)
    return total.hexdigest()[:16]


def metadata(project: Mapping[str, Any], version: str) -> str:
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {version}"]
    lines += [f"Summary: {project['description']}", f"Requires-Python: {project['requires-python']}"]
    lines += [f"Requires-Dist: {dependency}" for dependency in project["dependencies"]]
    return "\n".join(lines) + "\n"


def contents(files: Mapping[str, bytes], information: str, described: str) -> dict[str, bytes]:
    """Every entry of the wheel by its path, RECORD included."""
    found = dict(files)
    found[f"{information}/METADATA"] = described.encode()
    found[f"{information}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: sampan\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{path},{_digest(data)},{len(data)}\n" for path, data in sorted(found.items()))
    found[f"{information}/RECORD"] = f"{record}{information}/RECORD,,\n".encode()
    return found


def write(target: Path, entries: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path, data in sorted(entries.items(), key=lambda entry: (".dist-info/" in entry[0], entry[0])):
            header = zipfile.ZipInfo(path, DATE)
            header.compress_type, header.create_system = zipfile.ZIP_DEFLATED, 3  # 3: modes are Unix's
            header.external_attr = 0o100644 << 16
            archive.writestr(header, data)


def _digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
