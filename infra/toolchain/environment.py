"""The environment in which Pulumi and virsh work on this machine's labs. What the user has set wins.

State, secrets and selected stacks are in one folder for the machine, so that any shell and any checkout sees the same
stacks. The passphrase that encrypts secrets in the state is made once, readable by root alone.
"""

from __future__ import annotations

import errno
import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path("/var/lib/sampan-libvirt")
# Their values were made by us in a shell that `sampan toolchain --shell` set up; in another one they are the user's.
USERS = ("PULUMI_HOME", "PULUMI_BACKEND_URL", "PULUMI_SKIP_UPDATE_CHECK")


def variables(
    bin_folder: Path, python: Path, checkout: Path, libvirt_uri: str, folder: Path, user: Mapping[str, str]
) -> dict[str, str]:
    """All that a process needs beside the user's own environment, which is `user`."""
    ours = {
        "PATH": first(str(bin_folder), user.get("PATH", os.defpath)),
        "PYTHONPATH": first(str(checkout), user.get("PYTHONPATH", "")),
        "SAMPAN_PYTHON": str(python),
        "PULUMI_HOME": str(pulumi_home(folder)),
        "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "LIBVIRT_DEFAULT_URI": libvirt_uri,
    }
    if "PULUMI_CONFIG_PASSPHRASE" not in user and "PULUMI_CONFIG_PASSPHRASE_FILE" not in user:
        ours["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(folder / "passphrase")
    ours |= {name: user[name] for name in USERS if user.get(name)}
    if ours["PULUMI_HOME"] == str(pulumi_home(folder)):
        # Ours is an installed plugin there. A user's own PULUMI_HOME is left alone: the provider is found on PATH.
        ours["PULUMI_IGNORE_AMBIENT_PLUGINS"] = user.get("PULUMI_IGNORE_AMBIENT_PLUGINS", "true")
    return ours


def pulumi_home(folder: Path) -> Path:
    return folder / "pulumi-home"


def prepare(folder: Path) -> None:
    """Make the folders and the passphrase, if they are not there. OSError where that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", "pulumi-home"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
        if not os.access(folder / name, os.W_OK | os.X_OK):  # another user's: Pulumi would say less
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder / name))
    passphrase = folder / "passphrase"
    if passphrase.exists():
        return
    new = folder / f".passphrase-{os.getpid()}"
    new.unlink(missing_ok=True)
    with open(new, "w", opener=lambda path, flags: os.open(path, flags | os.O_EXCL, 0o600)) as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    try:
        os.link(new, passphrase)  # unlike a rename it does not replace what another command has just made
    except FileExistsError:
        pass
    finally:
        new.unlink()


def shell(environment: Mapping[str, str]) -> str:
    """Lines for `eval` in a POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(environment.items()))


def first(entry: str, path: str) -> str:
    """A search path with `entry` in front, and no second time."""
    rest = [other for other in path.split(os.pathsep) if other and other != entry]
    return os.pathsep.join([entry, *rest])
