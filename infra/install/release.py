"""Sampan's own code as a machine gets it: the components of our wheel, compiled for the machine's Python.

    /opt/sampan/releases/HASH/orchestrator/…      /opt/sampan/src -> releases/HASH

HASH is of the components' sources alone, so that a change of infra/ or a rebuilt wheel restarts nothing. A release is
unpacked beside its place and renamed into it when whole, then the link is replaced, in one step each.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from infra.images import cache
from infra.images.dependencies import NODE_PYTHON

RELEASES = "/opt/sampan/releases"
CURRENT = "/opt/sampan/src"
PACKAGE = "orchestrator/"
CACHE_TAG = f"cpython-{NODE_PYTHON.replace('.', '')}"  # of the Python that the archive is compiled for
KEPT = 2  # the present one and the one before

UNPACK = """\
set -e
mkdir -p {releases}
cd {releases}
rm -rf .new
mkdir .new
tar --extract --gzip --no-same-owner --file=- -C .new
{compile}
rm -rf {name}
mv -T .new {name}
"""
COMPILE = "python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s .new -p {current} .new || true"
SWITCH = """\
set -e
cd /opt/sampan
[ -L src ] || [ ! -e src ] || rmdir src
ln -sfn releases/{name} .src.new
mv -T .src.new src
{remove}
"""


@dataclass(frozen=True)
class Release:
    name: str
    wheel: Path

    def archive(self, node_tree: Path) -> bytes:
        """tar.gz of the sources and their compiled form, by the Python of `node_tree`; kept in the cache."""

        def build(place: Path) -> None:
            with tempfile.TemporaryDirectory(prefix="sampan-release-") as folder:
                with zipfile.ZipFile(self.wheel) as wheel:
                    wheel.extractall(folder, _members(wheel))
                cache.compile_code(Path(folder), node_tree)
                (place / "release.tar.gz").write_bytes(_tar(Path(folder)))

        return (cache.once(f"release-{self.name}-{node_tree.parent.name[-6:]}", build) / "release.tar.gz").read_bytes()


def of_wheel(wheel: Path) -> Release:
    total = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        for name in _members(archive):
            total.update(f"{name}\0".encode() + hashlib.sha256(archive.read(name)).digest())
    return Release(total.hexdigest()[:16], wheel)


def _members(wheel: zipfile.ZipFile) -> list[str]:
    return sorted(name for name in wheel.namelist() if name.startswith(PACKAGE) and not name.endswith("/"))


def _tar(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6, format=tarfile.GNU_FORMAT) as archive:
        for file in sorted(folder.rglob("*")):
            header = archive.gettarinfo(file, str(file.relative_to(folder)))
            header.uid = header.gid = 0
            header.uname = header.gname = ""
            header.mode = 0o755 if file.is_dir() else 0o644
            if file.is_dir():
                archive.addfile(header)
            else:
                with file.open("rb") as content:
                    archive.addfile(header, content)
    return buffer.getvalue()


def unpack_script(release: Release, python: str) -> str:
    """Compiles on the machine only where its Python is another than ours."""
    compiling = "" if python == CACHE_TAG else COMPILE.format(current=CURRENT)
    return UNPACK.format(releases=RELEASES, name=release.name, compile=compiling)


def switch_script(release: Release, present: str, all_releases: tuple[str, ...]) -> str:
    kept = {release.name, present.rpartition("/")[2]}
    gone = sorted(set(all_releases) - kept)
    return SWITCH.format(name=release.name, remove="\n".join(f"rm -rf releases/{name}" for name in gone))
