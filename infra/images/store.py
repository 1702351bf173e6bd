"""The read-only image store that every node shares: Podman's own storage, filled once while the node image is built.

Files in it belong to ids 0 to 65,535 as the images say. A node sees it through an id-mapped mount in which those are
its user's ids (infra/local), so no node copies or loads an image to start its first pod.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from infra.images import archive

STORE = "/usr/share/sampan/images"  # in the tree

# Podman wants /proc, /dev/null and a run root; all of them live in a mount namespace that ends with the command.
_LOAD = """
set -e
mount --bind "$1" "$1" # Podman remounts its root, which must be a mount for that
cd "$1"
mount -t sysfs sysfs "$1/sys"
mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/run"
mount -t tmpfs tmpfs "$1/tmp"
mount -t tmpfs tmpfs "$1/var/tmp"
mount --rbind /dev "$1/dev"
mkdir -p "$1/run/archives"
mount --bind "$2" "$1/run/archives"
for file in "$2"/*.tar; do
    chroot "$1" podman --root "$3" --runroot /run/store --storage-driver overlay --cgroup-manager cgroupfs \
        --events-backend none --network-config-dir /run/networks load --quiet --input "/run/archives/${file##*/}"
done
"""


def fill(tree: Path, images: dict[str, archive.Image], architecture: str) -> None:
    with tempfile.TemporaryDirectory(prefix="sampan-images-") as folder:
        for name, image in images.items():
            archive.write(image, architecture, Path(folder, f"{name}.tar"))
        (tree / STORE.lstrip("/")).mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                *("unshare", "--mount", "--pid", "--fork", "--propagation", "private", "sh", "-c", _LOAD, "load"),
                *(str(tree), folder, STORE),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    settle(tree / STORE.lstrip("/"))


def settle(store: Path) -> None:
    """Take chance out: the same images give the same store. Names and times as Podman chose them become derived ones.

    Readers need the lists of images and layers, the layers, and locks that may be empty.
    """
    for name in ("db.sql", "libpod", "volumes", "defaultNetworkBackend"):
        path = store / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for lock in store.rglob("*.lock"):
        lock.write_bytes(b"")
    layers_file = store / "overlay-layers/layers.json"
    layers = json.loads(layers_file.read_text())
    for layer in layers:
        layer["created"] = archive.CREATED
        folder = store / "overlay" / layer["id"]
        assert not (folder / "lower").exists(), "our images have one layer each, so no layer names another one's link"
        (store / "overlay/l" / (folder / "link").read_text()).unlink()
        (folder / "link").write_text(link_name(layer["id"]))
        (store / "overlay/l" / link_name(layer["id"])).symlink_to(f"../{layer['id']}/diff")
    layers_file.write_text(json.dumps(layers, separators=(",", ":")))


def link_name(layer_id: str) -> str:
    """The short name of a layer in mount options: 26 letters and digits, as containers/storage makes them."""
    return base64.b32encode(hashlib.sha256(layer_id.encode()).digest()).decode()[:26]
