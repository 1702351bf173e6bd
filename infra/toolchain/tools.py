"""Everything of the tools that needs no hypervisor: CLI, launchers, Python packages, Pulumi's folders."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.images import cache
from infra.images.tree import Progress
from infra.toolchain import environment, launchers, pulumi_cli, python_packages
from infra.toolchain.errors import ToolchainError

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Tools:
    pulumi: Path
    version: str  # as 3.274.1
    origin: str  # words for the user
    bin: Path
    folder: Path  # Pulumi's state, home and passphrase

    def environment(self, libvirt_uri: str, user: Mapping[str, str]) -> dict[str, str]:
        python = Path(sys.executable)
        if launchers.LANGUAGE_HOST in launchers.companions(self.pulumi):
            # The official language host knows nothing of us: it runs a program with the first `python` on PATH.
            user = {**user, "PATH": environment.first(str(python.parent), user.get("PATH", os.defpath))}
        return environment.variables(self.bin, python, CHECKOUT, libvirt_uri, self.folder, user)


def ensure(say: Progress, folder: Path = environment.FOLDER, user: Mapping[str, str] | None = None) -> Tools:
    """Bring what is missing. Raises ToolchainError."""
    user = os.environ if user is None else user
    python_packages.ensure(say)
    cli = pulumi_cli.find(say, user)
    is_ours = cli.pulumi.is_relative_to(cache.folder())
    bin_folder = cli.pulumi.parent if is_ours else cache.folder() / "pulumi-companions/bin"
    try:
        launchers.install(cli.pulumi, bin_folder)
        environment.prepare(folder)
        launchers.install_plugin(environment.pulumi_home(folder))
    except OSError as error:
        raise cannot_write(error) from error
    return Tools(bin_folder / "pulumi", cli.version, cli.origin, bin_folder, folder)


def cannot_write(error: OSError) -> ToolchainError:
    what = f"{error.filename}: {error.strerror}"
    if isinstance(error, PermissionError):
        return ToolchainError(
            what, "run as root (sudo ./sampan …): Pulumi's state and the labs' disks are the machine's"
        )
    if error.errno == errno.ENOSPC:
        return ToolchainError(what, "free some space there, then run the command again")
    return ToolchainError(what, "see to it that the folder can be written, then run the command again")
