"""The supervisor of one host service, where no service manager runs: starts it again when it dies, with a back-off.

    python -m infra.hypervisor.supervise NAME

A service is three files below /run/sampan/services: NAME.json says what to run, NAME.lock is held as long as its
supervisor lives (so that a process id used again cannot be mistaken for it), NAME.status says what it sees. SIGTERM
ends the service and its supervisor. If the supervisor is killed, the kernel ends the service.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from infra.local import syscalls

FOLDER = Path("/run/sampan/services")
DELAY_S_MIN, DELAY_S_MAX = 0.1, 10.0
STEADY_S = 10.0  # one that ran so long is started again without delay
END_TIMEOUT_S = 5.0  # from SIGTERM to SIGKILL
LOG_BYTES_MAX = 8 << 20  # at a start; the log before is kept as LOG.1


@dataclass(frozen=True)
class Definition:
    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    log: str
    identity: str = ""  # what it is, wherever the code is that starts it; "" where that is all of the above


@dataclass(frozen=True)
class Status:
    supervisor: int  # process id
    pid: int  # 0 while it waits to be started again
    deaths: int
    last_exit: str


def define(definition: Definition) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    FOLDER.chmod(0o700)
    _write(FOLDER / f"{definition.name}.json", asdict(definition))
    (FOLDER / f"{definition.name}.status").unlink(missing_ok=True)


def definition(name: str) -> Definition:
    data = json.loads((FOLDER / f"{name}.json").read_text())
    return Definition(data["name"], tuple(data["argv"]), data["environment"], data["log"], data.get("identity", ""))


def forget(name: str) -> None:
    for part in ("json", "status", "lock"):
        (FOLDER / f"{name}.{part}").unlink(missing_ok=True)
    with suppress(OSError):
        FOLDER.rmdir()


def read(name: str) -> Status | None:
    """What its supervisor says; None where none lives."""
    try:
        with (FOLDER / f"{name}.lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            except BlockingIOError:
                pass
    except FileNotFoundError:
        return None
    try:
        return Status(**json.loads((FOLDER / f"{name}.status").read_text()))
    except FileNotFoundError:
        return Status(0, 0, 0, "")


def delay_s(deaths_in_a_row: int) -> float:
    doublings = min(deaths_in_a_row - 1, 10)
    return min(DELAY_S_MAX, DELAY_S_MIN * 2.0**doublings) if deaths_in_a_row else 0.0


class Ended(Exception):
    """SIGTERM came."""


def run(wish: Definition) -> None:
    deaths = in_a_row = 0
    last_exit = ""
    process: subprocess.Popen[bytes] | None = None
    status_file = FOLDER / f"{wish.name}.status"
    try:
        while True:
            began = time.monotonic()
            try:
                process = _start(wish)
                _write(status_file, asdict(Status(os.getpid(), process.pid, deaths, last_exit)))
                code = process.wait()
                last_exit = f"signal {-code}" if code < 0 else f"exit code {code}"
            except OSError as error:
                last_exit = str(error)
            process = None
            deaths += 1
            in_a_row = 0 if time.monotonic() - began > STEADY_S else in_a_row + 1
            print(f"{wish.name} ended: {last_exit}; again in {delay_s(in_a_row):.1f} s", flush=True)
            _write(status_file, asdict(Status(os.getpid(), 0, deaths, last_exit)))
            time.sleep(delay_s(in_a_row))
    except Ended:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if process is not None:
            _end(process)


def _start(wish: Definition) -> subprocess.Popen[bytes]:
    def tie() -> None:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)

    command = [shutil.which(wish.argv[0], path=wish.environment.get("PATH")) or wish.argv[0], *wish.argv[1:]]
    return subprocess.Popen(
        command, env=dict(wish.environment), stdin=subprocess.DEVNULL, cwd="/", preexec_fn=tie, start_new_session=True
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _write(file: Path, data: Mapping[str, object]) -> None:
    new = file.with_name(f".{file.name}.{os.getpid()}")
    new.touch(mode=0o600)
    new.write_text(json.dumps(data))
    new.rename(file)


def _raise_ended(number: int, frame: FrameType | None) -> None:
    raise Ended


def main() -> None:
    name = sys.argv[1]
    with (FOLDER / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another one has just begun
        wish = definition(name)
        log = Path(wish.log)
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.rename(log.with_name(f"{log.name}.1"))
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for number in (1, 2):
            os.dup2(descriptor, number)
        signal.signal(signal.SIGTERM, _raise_ended)
        run(wish)


if __name__ == "__main__":
    main()
