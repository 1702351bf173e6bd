"""Host processes that outlive the command that started them, and come back when they die.

Where systemd runs, a service is a unit below /run; elsewhere a small supervisor of its own (supervise.py), one process
a service. Either ends only the service's main process: what that started and left (guests of a libvirtd) runs on.
A service whose definition differs from what runs is stopped and started again; the same one is left alone, and so is
one of the same identity that runs, where identities are given: of a libvirtd that several checkouts of Sampan use, the
commands of one would otherwise end the one that those of another are talking to.
Errors: HypervisorError with the service's name and the end of its log.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.hypervisor import supervise
from infra.hypervisor.errors import HypervisorError
from infra.hypervisor.supervise import Definition, Status
from infra.hypervisor.units import identity_line, unit_text

SYSTEMD = Path("/run/systemd/system")  # exists where systemd is the service manager (sd_booted(3))
NETNS = Path("/run/netns")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 20.0


def ensure_service(
    name: str, argv: Sequence[str], *, environment: Mapping[str, str], netns: str | None, log: Path, identity: str = ""
) -> None:
    """`argv[0]` is an absolute path; `netns` a name of `ip netns`; both outputs are appended to `log`."""
    command = [*(("nsenter", f"--net={NETNS / netns}", "--") if netns else ()), *argv]
    definition = Definition(name, tuple(command), {"PATH": PATH, "LANG": "C.UTF-8", **environment}, str(log), identity)
    log.parent.mkdir(parents=True, exist_ok=True)
    if SYSTEMD.is_dir():
        _ensure_unit(definition)
    else:
        _ensure_supervised(definition)


def stop_service(name: str) -> None:
    """It has ended when this returns. One that is not there is no error."""
    if SYSTEMD.is_dir():
        unit = SYSTEMD / unit_name(name)
        if unit.exists():
            _systemctl("stop", unit.name)
            unit.unlink()
            _systemctl("daemon-reload")
        return
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while (seen := supervise.read(name)) is not None:
        if seen.supervisor:
            _signal(seen.supervisor, signal.SIGTERM)
        if time.monotonic() > deadline:
            raise HypervisorError(
                f"service {name}: process {seen.pid} has not ended after {STOP_TIMEOUT_S:.0f} s",
                f"End it by hand: kill -9 {seen.pid} {seen.supervisor}",
            )
        time.sleep(0.02)
    supervise.forget(name)


def status(name: str) -> Status | None:
    """None: there is no such service."""
    if not SYSTEMD.is_dir():
        return supervise.read(name)
    if not (SYSTEMD / unit_name(name)).exists():
        return None
    shown = _systemctl("show", "--property=MainPID,NRestarts,ExecMainStatus", unit_name(name))
    values = dict(line.partition("=")[::2] for line in shown.splitlines())
    restarts = int(values.get("NRestarts") or 0)
    last = f"exit code {values.get('ExecMainStatus')}" if restarts else ""
    return Status(supervisor=1, pid=int(values.get("MainPID") or 0), deaths=restarts, last_exit=last)


def unit_name(name: str) -> str:
    return f"sampan-host-{name}.service"


def _ensure_unit(definition: Definition) -> None:
    unit = SYSTEMD / unit_name(definition.name)
    text = unit_text(definition)
    before = unit.read_text() if unit.exists() else ""
    is_alike = definition.identity and identity_line(definition) in before
    if is_alike and subprocess.run(["systemctl", "--quiet", "is-active", unit.name], check=False).returncode == 0:
        return
    if before != text:
        if unit.exists():
            _systemctl("stop", unit.name)
        unit.write_text(text)
        unit.chmod(0o600)  # an environment may hold a secret
        _systemctl("daemon-reload")
    _systemctl("start", unit.name)


def _ensure_supervised(definition: Definition) -> None:
    seen = supervise.read(definition.name)
    if seen is not None:
        running = supervise.definition(definition.name)
        is_alike = seen.pid and definition.identity and running.identity == definition.identity
        if running == definition or is_alike:
            return
    if seen is not None:
        stop_service(definition.name)
    supervise.define(definition)
    command = ["setsid", "--fork", sys.executable, "-m", "infra.hypervisor.supervise", definition.name]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run(command, check=True, env=environment, cwd="/", stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + START_TIMEOUT_S
    while (seen := supervise.read(definition.name)) is None or not (seen.pid or seen.deaths):
        if time.monotonic() > deadline:
            raise HypervisorError(
                f"service {definition.name} was not started in {START_TIMEOUT_S:.0f} s: {tail(Path(definition.log))}",
                "Its log tells why; then run the command again.",
            )
        time.sleep(0.01)


def tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else "(no log)"


def _systemctl(*arguments: str) -> str:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HypervisorError(
            f"systemctl {' '.join(arguments)}: {done.stderr.strip()}", "`journalctl -xe` tells more; then try again."
        )
    return done.stdout


def _signal(process: int, number: signal.Signals) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass
