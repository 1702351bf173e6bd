"""A libvirtd of Sampan's own, for machines where none answers: beside any other, and gone without a trace.

Everything it has is in one folder: its socket, configuration, logs, and what it knows of domains. Its networks are in
a named network namespace that the host reaches over one cable (link.py); it runs in a mount namespace of its own
(room.py). Both are held by name or by the guests themselves, so libvirtd can be killed and started again while guests
run on, and it finds them again. Paths of disks and pools mean the same inside and outside, but for those below
/var/lib/libvirt, /run/libvirt and /etc/libvirt, which are the folder's.

    Libvirtd(Path("/var/lib/mine"), networks=("172.30.7.0/24", "fd00:172:30:7::/64")).start()

`networks` are those that the host shall reach: two libvirtds at a time need different ones. Errors: HypervisorError.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sys
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from infra.hypervisor import late_mounts, processes, services
from infra.hypervisor import link as cable
from infra.hypervisor.errors import HypervisorError
from infra.hypervisor.room import PLACES
from infra.locks import locked

DEFAULT_FOLDER = Path("/var/lib/sampan-libvirt")
NODE_NETWORKS = ("172.30.0.0/16", "fd00:172:30::/48")  # the node networks of all VM labs (infra/topology.py)
LINK = "link.json"
SOCKET_PATH_MAX = 107  # bytes: sockaddr_un
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
PROGRAM_PLACES = ("/usr/sbin/libvirtd", "/usr/local/sbin/libvirtd")

# Root's alone. Its log goes to its standard error, which the service keeps.
LIBVIRTD_CONF = """\
unix_sock_group = "root"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "3:stderr"
"""
# QEMU runs as root, so that it reads any image that root can, without changing the owner of a file that labs share.
# Without a service manager there is no virtlogd; namespaces and cgroups of its own are left out with what they need.
QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
security_default_confined = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
max_core = 0
"""


@dataclass(frozen=True)
class Libvirtd:
    folder: Path
    networks: tuple[str, ...] = ()
    hide_kvm: bool = True

    @property
    def uri(self) -> str:
        return f"qemu:///system?socket={self.socket}"

    @property
    def socket(self) -> Path:
        return self.folder / "run/libvirt-sock"

    @property
    def log(self) -> Path:
        return self.folder / "log/libvirtd.log"

    @property
    def identity(self) -> str:
        """Of this folder; names what is outside of it."""
        return hashlib.sha256(str(self.folder.absolute()).encode()).hexdigest()[:8]

    @property
    def netns(self) -> str:
        return "sampan-vm" if self.folder == DEFAULT_FOLDER else f"sampan-vm-{self.identity}"

    @property
    def service(self) -> str:
        return f"libvirtd-{self.identity}"

    def start(self) -> None:
        """It answers when this returns. Again: what is missing is made, mounts of the host's included."""
        if len(str(self.socket)) > SOCKET_PATH_MAX:
            raise HypervisorError(
                f"{self.socket} is longer than the {SOCKET_PATH_MAX} bytes that a socket's path may have",
                "Choose a folder with a shorter name.",
            )
        program = next((place for place in PROGRAM_PLACES if os.access(place, os.X_OK)), None)
        if program is None:
            raise HypervisorError(
                f"libvirtd is not installed: it is at none of {', '.join(PROGRAM_PLACES)}",
                "Install libvirt-daemon and libvirt-daemon-driver-qemu (./sampan toolchain does).",
            )
        with self._alone():
            self._write_files()
            cable.up(self._link())
            kvm = "hide-kvm" if self.hide_kvm else "show-kvm"
            services.ensure_service(
                self.service,
                [
                    *(sys.executable, "-m", "infra.hypervisor.room", str(self.folder), self.netns, kvm),
                    *(program, "--config", "/etc/libvirt/libvirtd.conf", "--pid-file", "/run/libvirt/libvirtd.pid"),
                ],
                environment={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
                netns=None,
                log=self.log,
                identity=self._identity_of_run(program, kvm),
            )
            self._wait_answers()
            if (seen := services.status(self.service)) and seen.pid:
                late_mounts.bring(seen.pid)

    def _identity_of_run(self, program: str, kvm: str) -> str:
        """Of all that it starts with, but not of the checkout whose command happened to start it."""
        room = Path(__file__).with_name("room.py").read_text()
        parts = (str(self.folder.absolute()), self.netns, program, kvm, LIBVIRTD_CONF, QEMU_CONF, room)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def stop(self) -> None:
        """libvirtd ends; guests and networks run on."""
        services.stop_service(self.service)

    def is_running(self) -> bool:
        return answers(self.socket)

    def remove(self) -> None:
        """Nothing of it is left: no guest, process, network, mount or file. What others keep in the folder stays."""
        if not self.folder.exists():
            return
        with self._alone():
            self.stop()
            # Guests, dnsmasq and whatever else was started there: all are in the network namespace, or have a
            # mount of the folder.
            processes.end(processes.in_netns(cable.NETNS / self.netns), timeout_s=STOP_TIMEOUT_S)
            if link := cable.load(self.folder / LINK):
                cable.down(link)
            cable.remove_netns(self.netns)
            for part in (*PLACES.values(), "dev"):
                shutil.rmtree(self.folder / part, ignore_errors=True)
            (self.folder / LINK).unlink(missing_ok=True)
            with suppress(OSError):  # somebody keeps something there
                self.folder.rmdir()

    def restart(self) -> None:
        """As a crash would have it: killed outright, then started again."""
        if seen := services.status(self.service):
            processes.end([seen.pid] if seen.pid else [], timeout_s=STOP_TIMEOUT_S)
        self.start()

    def _write_files(self) -> None:
        for part in (*PLACES.values(), "dev"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        for place in PLACES:
            Path(place).mkdir(
                parents=True, exist_ok=True
            )  # to mount on; of the Debian package, or libvirt's at a start
        (self.folder / "etc/libvirtd.conf").write_text(LIBVIRTD_CONF)
        (self.folder / "etc/qemu.conf").write_text(QEMU_CONF)

    def _link(self) -> cable.Link:
        """As it was the last time, so that addresses stay; with the networks of now."""
        file = self.folder / LINK
        known = cable.load(file)
        is_ours = known is not None and cable.is_up(known)
        if known and is_ours and known.networks == self.networks:
            return known
        if known and is_ours:
            cable.down(known)
        with _numbering():
            taken = frozenset(entry.name for entry in Path("/sys/class/net").iterdir())
            if known and known.outer not in taken and known.networks == self.networks:
                cable.up(known)  # as before the machine booted, so that addresses stay
                return known
            link = cable.Link(cable.free_number(taken), self.netns, self.networks)
            cable.store(file, link)
            cable.up(link)
        return link

    def _wait_answers(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_running():
            if time.monotonic() > deadline:
                tail = "\n".join(self.log.read_text().splitlines()[-15:]) if self.log.exists() else "(no log)"
                raise HypervisorError(
                    f"libvirtd does not answer at {self.socket} after {START_TIMEOUT_S:.0f} s; {self.log} ends with:"
                    f"\n{tail}",
                    "Its log tells why; then run the command again.",
                )
            time.sleep(0.02)

    def _alone(self) -> AbstractContextManager[None]:
        """Two commands that start or remove one folder's libvirtd go one after the other."""
        return locked(self.folder)


def _numbering() -> AbstractContextManager[None]:
    """Machine-wide: two that begin together must not choose one number."""
    return locked(Path("/run"))


def answers(path: Path) -> bool:
    """Whether somebody listens there; libvirtd listens when its drivers are ready."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True
