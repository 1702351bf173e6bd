"""The root tree of a machine: a copy of the node's, Debian packages more, the kernel's modules, and /etc of its own.

The packages come by the host's apt into the copy, as mmdebstrap does it, so the node's tree is neither rebuilt nor
made larger. The kernel is unpacked and not installed: its package would bring a generator of initrds that nothing
uses. What differs from build to build (logs, host keys, caches, times) is taken out or fixed.
Errors: subprocess.CalledProcessError of the step that failed.
"""

from __future__ import annotations

import email.utils
import lzma
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from infra.images.machine import files
from infra.images.packages import KERNELS, MACHINE_PACKAGES
from infra.images.tree import apt_settings

# In a mount namespace that ends with the command. Services are not started: policy-rc.d(8) forbids it.
_INSTALL = """
set -e
tree=$1; shift
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount -t sysfs sysfs "$tree/sys"
mount -t tmpfs tmpfs "$tree/run"
mount -t tmpfs tmpfs "$tree/tmp"
mount --rbind /dev "$tree/dev"
mkdir -p "$tree/var/cache/apt/archives/partial"
mount -t tmpfs tmpfs "$tree/var/cache/apt"
mkdir -p "$tree/var/cache/apt/archives/partial"
printf '#!/bin/sh\\nexit 101\\n' > "$tree/usr/sbin/policy-rc.d"
chmod 755 "$tree/usr/sbin/policy-rc.d"
apt-get --quiet --quiet update
kernel=$(apt-cache depends "$1" | sed -n 's/.*Depends: \\(linux-image-.*\\)/\\1/p'); shift
cd "$tree/tmp"
apt-get --quiet --quiet download "$kernel"
dpkg-deb --extract "$kernel"_*.deb "$tree/tmp/kernel"
mkdir -p "$tree/usr/lib/modules"
cp -a "$tree"/tmp/kernel/usr/lib/modules/* "$tree/usr/lib/modules/"
cp -a "$tree"/tmp/kernel/boot/vmlinuz-* "$tree/boot/vmlinuz"
apt-get --quiet --quiet --yes --no-install-recommends install "$@"
rm "$tree/usr/sbin/policy-rc.d"
"""

# Made new by the machine itself, or of no use in it (names of hardware, sources of locales: 40 MB).
_REMOVED = (
    "dev/*", "etc/ssh/ssh_host_*", "etc/.pwd.lock", "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-",
    "etc/subuid-", "etc/subgid-", "var/cache/ldconfig/*", "var/cache/apt", "var/cache/debconf/*",
    "var/lib/apt/lists/*", "var/lib/apt/periodic", "var/lib/dpkg/*-old", "var/lib/systemd/random-seed",
    "var/lib/systemd/catalog", "var/lib/dbus/machine-id", "var/lib/cloud", "var/lib/ucf", "var/log/*.log",
    "var/log/apt/*", "var/lib/containers/*", "usr/lib/udev/hwdb.*", "usr/share/i18n/*", "run/*", "tmp/*", "boot/*",
)  # fmt: skip


@dataclass(frozen=True)
class Built:
    kernel: Path
    modules: Path
    epoch_s: int  # the date of the archive's release: no file in the tree is newer


def build(node_tree: Path, tree: Path, kernel: Path, architecture: str) -> Built:
    subprocess.run(["cp", "-a", str(node_tree), str(tree)], check=True, capture_output=True, text=True)
    install(tree, architecture)
    epoch_s = release_date(tree)
    shutil.move(tree / "boot/vmlinuz", kernel)
    configure(tree)
    (modules,) = (tree / "usr/lib/modules").iterdir()
    unpack(tree, modules)
    clean(tree, epoch_s)
    return Built(kernel, modules, epoch_s)


def configure(tree: Path) -> None:
    for path, text in files.texts().items():
        _place(tree, path).write_text(text)
    for path, target in files.links().items():
        place = _place(tree, path)
        place.unlink(missing_ok=True)
        place.symlink_to(target)
    rules = (tree / "usr/lib/udev/rules.d/99-systemd.rules").read_text()
    _place(tree, "/etc/udev/rules.d/99-systemd.rules").write_text(files.network_rules(rules))


def unpack(tree: Path, modules: Path) -> None:
    """The modules that machines load at boot, and what those need, without compression."""
    version = modules.name
    _chroot(tree, "depmod", version)
    listed = _chroot(tree, "modprobe", "--set-version", version, "--show-depends", "--all", *files.UNPACKED)
    for path in {line.split()[1] for line in listed.splitlines() if line.startswith("insmod")}:
        packed = tree / path.lstrip("/")
        if packed.suffix == ".xz":
            packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
            packed.unlink()
    _chroot(tree, "depmod", version)


def _chroot(tree: Path, *command: str) -> str:
    return subprocess.run(["chroot", str(tree), *command], check=True, capture_output=True, text=True).stdout


def install(tree: Path, architecture: str) -> None:
    settings = (
        *apt_settings(),
        f'Dir "{tree}";',
        f'DPkg::Chroot-Directory "{tree}";',
        'DPkg::Options:: "--force-unsafe-io";',  # what a crash leaves half written is thrown away anyhow
        'APT::Sandbox::User "root";',
        f'APT::Architecture "{architecture}";',
    )
    configuration = "".join(f"{line}\n" for line in settings)
    file = tree.with_suffix(".apt.conf")
    file.write_text(configuration)
    environment = {"DEBIAN_FRONTEND": "noninteractive", "DEBCONF_NONINTERACTIVE_SEEN": "true", "LC_ALL": "C.UTF-8"}
    subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", _INSTALL, "install", str(tree)),
            *(KERNELS[architecture], *MACHINE_PACKAGES),
        ],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | environment | {"APT_CONFIG": str(file), "PYTHONHASHSEED": "0"},
    )
    file.unlink()


def release_date(tree: Path) -> int:
    """Seconds since 1970 of the archive's `Date:`: the same for everyone who installs from the same release."""
    for file in sorted((tree / "var/lib/apt/lists").glob("*Release")):
        for line in file.read_text().splitlines():
            if line.startswith("Date:"):
                return int(email.utils.parsedate_to_datetime(line.partition(":")[2].strip()).timestamp())
    raise LookupError(f"apt left no release file in {tree / 'var/lib/apt/lists'}")


def clean(tree: Path, epoch_s: int) -> None:
    for pattern in _REMOVED:
        for path in tree.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    (tree / "var/lib/containers").chmod(0o755)  # Podman made it for root alone when it filled the image store
    for name in ("etc/machine-id", "etc/resolv.conf", "etc/hostname"):
        (tree / name).unlink(missing_ok=True)
        (tree / name).touch()
    shadow = tree / "etc/shadow"
    shadow.write_text(dated(shadow.read_text(), epoch_s))


def dated(shadow: str, epoch_s: int) -> str:
    """shadow(5) with passwords last changed on the epoch's day, and not on that of the build."""
    rows = [line.split(":") for line in shadow.splitlines()]
    return "".join(":".join([*row[:2], str(epoch_s // 86_400), *row[3:]]) + "\n" for row in rows)


def _place(tree: Path, path: str) -> Path:
    place = tree / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    return place
