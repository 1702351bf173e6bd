"""What a machine of a user's lacks of our image: Debian packages by its own apt, and what no package has, shipped.

    /opt/sampan/lib             the components' Python dependencies, as in our image
    /usr/share/sampan/images    the offline container images, as in our image

A file beside each says of which image it is, and is written last. Machines must be Debian 13 or have what it has:
systemd 254 (a service's own control group), Podman 5, Python of our image's version.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from infra.images import cache
from infra.images.dependencies import LIBRARY, NODE_PYTHON
from infra.images.packages import NODE_PACKAGES
from infra.images.store import STORE
from infra.install.facts import Facts
from infra.install.plan import SHELL, Step
from infra.install.release import CACHE_TAG

PARTS = (LIBRARY, STORE)
NOT_WANTED = {"nginx-light"}  # is there for its image; on a machine it would serve on port 80
BESIDES = ("dbus-user-session", "e2fsprogs", "kmod", "libpam-systemd", "nfs-common", "openssh-server")
PACKAGES = tuple(sorted({*NODE_PACKAGES, *BESIDES} - NOT_WANTED))

APT = """\
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends {packages}
"""
# The store may be mounted over itself (units.IMAGES); what uses it is started again by a later step.
UNPACK = """\
set -e
systemctl stop usr-share-sampan-images.mount 2>/dev/null || true
rm -rf {place}.new
mkdir -p {place}.new
tar --extract --gzip --numeric-owner --same-owner --xattrs --xattrs-include='*' --file=- -C {place}.new
rm -rf {place}
mv -T {place}.new {place}
echo {version} > {place}.version
"""


def version(node_tree: Path) -> str:
    return node_tree.parent.name


def version_file(part: str) -> str:
    return f"{part}.version"


def refuse(seen: Facts) -> str:
    """Why this machine cannot be a node, whatever is installed; empty if it can."""
    if seen.python != CACHE_TAG:
        return (
            f"it is {seen.system}, whose Python is {seen.python}; Sampan's dependencies are for Python {NODE_PYTHON}: "
            "install Debian 13 (trixie) on it"
        )
    return ""


def steps(seen: Facts, versions: dict[str, str], wanted: str, node_tree: Path) -> list[Step]:
    """`versions`: what the version files say, by part. Archives are made only of what is missing."""
    found = []
    if seen.lacking:
        script = APT.format(packages=" ".join(PACKAGES))
        title = f"Debian packages ({', '.join(seen.lacking)} not found)"
        found.append(Step(title=title, command=SHELL, stdin=script.encode()))
    for part in PARTS:
        if versions.get(part) != wanted:
            data = archive(node_tree, part)
            script = UNPACK.format(place=part, version=wanted)
            title = f"{part} ({len(data) / 1e6:.0f} MB)"
            found.append(Step(title=title, command=("sh", "-c", script), stdin=data))
    return found


def archive(node_tree: Path, part: str) -> bytes:
    """tar.gz of a folder of the image's tree, with owners and attributes; kept in the cache."""
    name = f"part-{part.rpartition('/')[2]}-{version(node_tree)[-16:]}"

    def build(place: Path) -> None:
        command = ["tar", "--create", "--gzip", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--sort=name"]
        source = node_tree / part.lstrip("/")
        done = subprocess.run([*command, "-C", str(source), "."], check=True, capture_output=True)
        (place / "part.tar.gz").write_bytes(done.stdout)

    return (cache.once(name, build) / "part.tar.gz").read_bytes()
