"""Start a program in a node: a fork that joins the namespaces of the node's PID 1, as root or as its unprivileged user.

Two kinds: a command (exec), and a component, which runs in the fork itself with everything that its parent imported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.local import boot, cgroups, syscalls

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
LOG_BYTES_MAX = 16 * 1024 * 1024  # looked at when a component starts
USER_HOME = "/var/lib/sampan/home"


@dataclass(frozen=True, kw_only=True)
class Account:
    """Who a process of a node runs as. `cgroup` is below the node's group."""

    user_id: int
    group_ids: tuple[int, ...]
    home: str
    cgroup: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        return {**ENVIRONMENT, "HOME": self.home, **self.environment}


def root_account() -> Account:
    return Account(user_id=0, group_ids=(0,), home="/root", cgroup="init")


def host_account() -> Account:
    """Root beside the supervisor; its control group is the component's own, with none below it."""
    return Account(user_id=0, group_ids=(0,), home="/root", cgroup="")


def node_user(user_id: int) -> Account:
    return Account(
        user_id=user_id,
        group_ids=(user_id,),
        home=USER_HOME,
        cgroup="user/service",
        environment={"XDG_RUNTIME_DIR": f"/run/user/{user_id}", "USER": "sampan", "LOGNAME": "sampan"},
    )


def spawn(init_pid: int, node_cgroup: str, account: Account, log: Path, main: Callable[[], None]) -> int:
    """Fork `main` into the node whose PID 1 is `init_pid`; its output goes to `log` (the supervisor's path)."""
    pidfd = os.pidfd_open(init_pid)
    try:
        output = open_log(log)
        try:
            pid = boot.fork_in_pid_namespace(pidfd)
            if pid == 0:
                _run(pidfd, node_cgroup, account, output, main)
            return pid
        finally:
            os.close(output)
    finally:
        os.close(pidfd)


def spawn_on_host(group: str, account: Account, log: Path, main: Callable[[], None]) -> int:
    """Fork `main` beside this process: in the namespaces that it is in itself, in a control group of its own."""
    (cgroups.UNIFIED / group).mkdir(exist_ok=True)
    output = open_log(log)
    try:
        pid = os.fork()
        if pid == 0:
            _run(None, group, account, output, main)
        return pid
    finally:
        os.close(output)


def open_log(log: Path) -> int:
    """A descriptor to append to. A log that has grown large becomes the one before, of which one is kept."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.1"))
    return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _run(pidfd: int | None, node_cgroup: str, account: Account, output: int, main: Callable[[], None]) -> None:
    code = 1
    try:
        os.setsid()
        silence = os.open("/dev/null", os.O_RDONLY)
        for number, source in ((0, silence), (1, output), (2, output)):
            os.dup2(source, number)
        cgroups.join(cgroups.UNIFIED / node_cgroup / account.cgroup)
        if pidfd is not None:
            syscalls.setns(pidfd, boot.NAMESPACES)
        os.closerange(3, 4096)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.environ.clear()
        os.environ.update(account.variables)
        if account.user_id != 0:
            os.setgroups(account.group_ids)
            os.setgid(account.group_ids[0])
            os.setuid(account.user_id)
        os.chdir(account.home if Path(account.home).is_dir() else "/")
        main()
        code = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def command(arguments: tuple[str, ...]) -> Callable[[], None]:
    def main() -> None:
        os.execvp(arguments[0], arguments)

    return main
