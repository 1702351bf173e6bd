"""Wait until units are active and endpoints answer.

    {"units": [...], "checks": {endpoint: unit}, "limit_s": 60}  ->  {"problem": ""}

An endpoint is `http(s)://…` (200; certificates of the lab's authority), or `tcp://…` or a unix socket's path (takes
connections).
The answer has the first thing that is still wrong when the limit is reached, and the end of that unit's journal. A
unit that failed for good ends the wait at once.
"""

from __future__ import annotations

import functools
import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

POLL_S = 0.2
UNITS_S = 2.0  # between looks at the units: a process each, which takes from those that start on a slow machine
TIMEOUT_S = 5
RESTARTS_MAX = 6  # more failures than a component needs to find the others
AUTHORITY = "/etc/sampan/pki/ca.crt"
JOURNAL_LINES = 15


def states(names: list[str]) -> dict[str, tuple[str, int]]:
    """Each unit's state, and how often it was restarted after a failure."""
    command = ["systemctl", "show", "--property=Id,ActiveState,NRestarts", *names]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = {}
    for block in said.strip().split("\n\n"):
        pairs = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        found[pairs.get("Id", "")] = (pairs.get("ActiveState", ""), int(pairs.get("NRestarts") or 0))
    return found


@functools.cache
def trust() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=AUTHORITY)


def check_problem(check: str) -> str:
    try:
        if check.startswith("/"):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(TIMEOUT_S)
                connection.connect(check)
            return ""
        if check.startswith("tcp://"):
            host, _, port = check.removeprefix("tcp://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=TIMEOUT_S).close()
            return ""
        context = trust() if check.startswith("https") else None
        urllib.request.urlopen(check, timeout=TIMEOUT_S, context=context).close()
    except OSError as error:  # URLError and HTTPError are
        return f"{check}: {error}"
    return ""


def journal(unit: str) -> str:
    command = ["journalctl", "--unit", unit, "--lines", str(JOURNAL_LINES), "--output", "cat", "--no-pager"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def wait(units: list[str], checks: dict[str, str], limit_s: float) -> str:
    """Empty when all is well. `checks`: endpoint -> the unit that serves it."""
    deadline = time.monotonic() + limit_s
    left = dict(checks)
    first, looked = states(units), 0.0
    while True:
        unit, problem = answer(left)
        if problem and time.monotonic() < min(looked + UNITS_S, deadline):
            time.sleep(POLL_S)
            continue
        looked, seen = time.monotonic(), states(units)
        inactive = next((name for name, (state, _) in seen.items() if state != "active"), "")
        if inactive:
            unit, problem = inactive, f"{inactive} is {seen[inactive][0]}"
        if not problem:
            return ""
        state, restarts = seen[unit]
        is_hopeless = state == "failed" or restarts - first[unit][1] >= RESTARTS_MAX
        if is_hopeless or time.monotonic() > deadline:
            again = f", started again {restarts - first[unit][1]} times" if restarts else ""
            return f"{problem}{again}; the end of its journal:\n{journal(unit)}"
        time.sleep(POLL_S)


def answer(left: dict[str, str]) -> tuple[str, str]:
    """The first unit whose endpoint does not answer. One that has answered is taken out of `left`."""
    for check, unit in list(left.items()):
        if problem := check_problem(check):
            return unit, problem
        del left[check]
    return "", ""


def main() -> None:
    wish = json.load(sys.stdin)
    print(json.dumps({"problem": wait(wish["units"], wish["checks"], wish["limit_s"])}))


main()
