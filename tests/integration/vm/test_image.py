"""The VM image booted once: it answers, nothing of it failed, and limits of an ordinary user's containers hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.images.store import STORE
from infra.images.sysctls import SYSCTLS
from infra.install.connection import CommandError
from infra.install.ssh import Ssh
from tests.integration.vm.own import booted

USER = 100_000_000  # of no lab
GIB = 2**30

# What infra/install does for a node's user, in few words: account with ids, image store as its own, session at boot.
MAKE_USER = f"""
set -e
echo 'someone:x:{USER}:{USER}::/home/someone:/bin/sh' >> /etc/passwd
echo 'someone:x:{USER}:' >> /etc/group
echo 'someone:!:20000::::::' >> /etc/shadow
echo 'someone:{USER + 1}:65535' | tee /etc/subuid > /etc/subgid
install -d -o {USER} -g {USER} /home/someone /home/someone/.config /home/someone/.config/containers
printf '[storage]\\ndriver = "overlay"\\n[storage.options]\\nadditionalimagestores = ["{STORE}"]\\n' \
    > /home/someone/.config/containers/storage.conf
printf '[engine]\\nevents_logger = "file"\\n[containers]\\nkeyring = false\\n' > /etc/containers/containers.conf
printf '{{"default": [{{"type": "insecureAcceptAnything"}}]}}' > /etc/containers/policy.json
mount --bind -o ro,X-mount.idmap=b:0:{USER}:65536 {STORE} {STORE}
loginctl enable-linger someone
systemctl start user@{USER}.service
"""


RUNTIME = f"/run/user/{USER}"
AS_USER = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "env", "--chdir=/", "HOME=/home/someone"),
    *(f"XDG_RUNTIME_DIR={RUNTIME}", f"DBUS_SESSION_BUS_ADDRESS=unix:path={RUNTIME}/bus"),
)


class Guest:
    def __init__(self, ssh: Ssh) -> None:
        self.ssh = ssh

    def run(self, script: str) -> str:
        return self.ssh.run(["sh", "-c", script]).decode().strip()

    def podman(self, words: str, script: str = "") -> str:
        """Through the API in the user's own session, whose cgroups are delegated; `script` is for a container's sh."""
        inner = ["sh", "-c", script] if script else []
        return self.ssh.run([*AS_USER, "podman", "--remote", *words.split(), *inner]).decode().strip()


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with booted() as own:
        guest = Guest(own.ssh)
        guest.run("systemctl is-system-running --wait || true")
        yield guest


@pytest.fixture(scope="module")
def someone(guest: Guest) -> Guest:
    guest.run(MAKE_USER)
    guest.ssh.run([*AS_USER, "systemctl", "--user", "start", "podman.socket"])
    return guest


def test_it_is_up_and_no_unit_has_failed(guest: Guest) -> None:
    assert guest.run("systemctl list-units --failed --plain --no-legend; systemctl is-system-running") == "running"


def test_its_root_file_system_grew_to_its_disk(guest: Guest) -> None:
    assert int(guest.run("stat -f -c '%b %S' / | awk '{ print $1 * $2 }'")) > 7 * GIB


def test_the_kernel_is_set_as_that_of_every_node(guest: Guest) -> None:
    read = guest.run(f"cd /proc/sys && grep -H . {' '.join(SYSCTLS)}")
    assert dict(line.split(":", 1) for line in read.splitlines()) == SYSCTLS


def test_what_the_machine_is_comes_from_its_own_first_boot(guest: Guest) -> None:
    assert len(guest.run("cat /etc/machine-id")) == 32
    assert guest.run("ls /etc/ssh/ssh_host_*_key") == "/etc/ssh/ssh_host_ed25519_key"
    assert guest.run('cloud-init status --format json | grep -o \'"status": "[a-z]*"\'') == '"status": "done"'


def test_roots_sessions_start_no_service_manager(guest: Guest) -> None:
    assert guest.run("systemctl is-active user@0.service || true") == "inactive"


def test_a_user_runs_a_container_of_the_shared_store_with_limits(someone: Guest) -> None:
    files = "cd /sys/fs/cgroup && cat memory.max cpu.max pids.max"
    read = someone.podman(
        "run --rm --network none --memory 64m --cpus 0.5 --pids-limit 50 sampan.local/busybox:1", files
    )
    assert read.splitlines() == [str(64 * 2**20), "50000 100000", "50"]


def test_files_of_the_store_are_the_containers_own(someone: Guest) -> None:
    changed = "echo x > /etc/passwd && stat -c '%u %g' /etc/passwd /bin/busybox"
    assert someone.podman("run --rm --network none sampan.local/busybox:1", changed).splitlines() == ["0 0", "0 0"]


def test_a_container_that_takes_more_memory_is_killed(someone: Guest) -> None:
    limits = "run --name greedy --network none --memory 32m --memory-swap 32m sampan.local/busybox:1"
    with pytest.raises(CommandError):
        someone.podman(limits, "dd if=/dev/zero of=/dev/null bs=200M count=1")
    state = someone.podman("inspect --format {{.State.OOMKilled}}/{{.State.ExitCode}} greedy")
    assert state == "true/137"
