"""A real sshd on a loopback port, with keys and files of its own; it ends with the test."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.install.ssh import Ssh

START_S = 10.0

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
"""


@dataclass
class Sshd:
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def key(self) -> bytes:
        return (self.folder / "user").read_bytes()

    @property
    def host_key(self) -> str:
        return (self.folder / "host.pub").read_text()

    def connection(self, **more: object) -> Ssh:
        given = {"port": self.port, "key": self.key, "host_keys": (self.host_key,), **more}
        return Ssh("node-1", "127.0.0.1", **given)  # type: ignore[arg-type]

    def start(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)  # privilege separation
        self.process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "config")],
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
        )
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        """The listener; sessions are its children's and live on."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


def new_key(file: Path, kind: str = "ed25519") -> None:
    for old in (file, file.with_suffix(".pub")):
        old.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(file)], check=True)


@contextmanager
def prepared(folder: Path) -> Iterator[Sshd]:
    """Not started yet."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    for name in ("host", "user"):
        new_key(folder / name)
    (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder))
    sshd = Sshd(folder, port)
    try:
        yield sshd
    finally:
        sshd.stop()
