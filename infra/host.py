"""What the host needs for a lab: root and a few programs. Installs what is missing and says so; never asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from infra.images.packages import HOST_COMMANDS, NODE_SUITE
from infra.images.sources import debian_mirror
from infra.images.tree import trust
from infra.local.layout import LABS

KEYRINGS = Path("/usr/share/keyrings")
KUBECTL = Path("/usr/local/bin/kubectl")
Say = Callable[[str], None]


class HostError(RuntimeError):
    """This machine cannot run a lab; the message says what is missing and what to do."""


def ensure(say: Say) -> None:
    if os.geteuid() != 0:
        raise HostError("a lab needs root: it makes namespaces, mounts and a bridge. Run it as root (sudo ./sampan …)")
    ensure_image_tools(say, HOST_COMMANDS)
    check_namespaces()
    check_file_system(Path("/proc/self/mounts").read_text(), LABS)
    if shutil.which("kubectl") is None and not KUBECTL.exists():
        say(f"installing kubectl from Debian {NODE_SUITE} to {KUBECTL}")
        install_kubectl()


def ensure_image_tools(say: Say, commands: Mapping[str, str]) -> None:
    """The programs that building an image calls, and the keys that it trusts."""
    missing = lacking(commands)
    if not any(KEYRINGS.glob(f"debian-archive-{NODE_SUITE}-*")):
        missing.append("debian-archive-keyring")  # one older than the suite, which an upgrade replaces
    if missing:
        say(f"installing {', '.join(missing)} (apt-get)")
        apt_install(missing)


def lacking(commands: Mapping[str, str]) -> list[str]:
    """Packages of those commands that are not on PATH."""
    return sorted({package for command, package in commands.items() if shutil.which(command) is None})


def check_namespaces() -> None:
    command = ["unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(
            f"this machine does not let root make namespaces: {done.stderr.strip()}\n"
            "In a container, run it privileged (docker run --privileged), or use a virtual machine."
        )


def check_file_system(mounts: str, place: Path) -> None:
    """Nodes are overlays whose upper layers are beneath `place`, which therefore may not be on an overlay itself."""
    kinds = {fields[1]: fields[2] for line in mounts.splitlines() if len(fields := line.split()) > 2}
    holder = next(str(folder) for folder in (place, *place.parents) if str(folder) in kinds)
    if kinds[holder] == "overlay":
        raise HostError(
            f"{place} is on an overlay file system (mounted at {holder}), which cannot carry another one.\n"
            f"Give it a file system of its own, such as a volume of the container at {place}."
        )


def apt_install(packages: list[str]) -> None:
    """Install, or upgrade what is older than the archive has."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:  # often only because the package lists are old
        subprocess.run(["apt-get", "update", "-qq"], env=environment, capture_output=True, check=False)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(
            f"{' '.join(command)}: {done.stderr.strip()}\nInstall {', '.join(packages)} by hand, then again."
        )


def install_kubectl() -> None:
    """Unpack the newer suite's package beside the system: it is one program that needs only libc."""
    with tempfile.TemporaryDirectory(prefix="sampan-kubectl-") as folder:
        place = Path(folder)
        for part in ("lists/partial", "cache/archives/partial"):
            (place / part).mkdir(parents=True)
        (place / "sources.list").write_text(f"deb {trust()}{debian_mirror()} {NODE_SUITE} main\n")
        options = {
            "Dir::Etc::SourceList": place / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": place / "lists",
            "Dir::State::status": "/dev/null",  # another vendor's kubectl may be on record
            "Dir::Cache": place / "cache",
            "APT::Sandbox::User": "root",
        }
        apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
        try:
            subprocess.run([*apt, "update"], check=True, capture_output=True, text=True)
            subprocess.run([*apt, "download", "kubectl"], check=True, capture_output=True, text=True, cwd=place)
            (package,) = place.glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", str(package), str(place / "root")], check=True, capture_output=True)
        except (subprocess.CalledProcessError, ValueError) as error:
            said = getattr(error, "stderr", "") or str(error)
            raise HostError(f"kubectl could not be fetched from Debian {NODE_SUITE}: {said}") from error
        KUBECTL.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place / "root/usr/bin/kubectl", KUBECTL)
