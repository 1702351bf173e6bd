"""Wait until units are active and endpoints answer.

    {"units": [...], "checks": {endpoint: unit}, "limit_s": 60}  ->  {"problem": ""}

An endpoint is `http(s)://…` (200; certificates of the lab's authority) or a unix socket's path (takes connections).
The answer has the first thing that is still wrong when the limit is reached, and the end of that unit's journal. A
unit that failed for good ends the wait at once.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

POLL_S = 0.2
TIMEOUT_S = 5
AUTHORITY = "/etc/sampan/pki/ca.crt"
JOURNAL_LINES = 15


def unit_problem(names: list[str]) -> tuple[str, str]:
    """The first unit that is not active, and its state."""
    said = subprocess.run(["systemctl", "is-active", *names], capture_output=True, text=True, check=False)
    states = said.stdout.split()
    return next(((name, state) for name, state in zip(names, states) if state != "active"), ("", ""))  # noqa: B905


def check_problem(check: str) -> str:
    try:
        if check.startswith("/"):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(TIMEOUT_S)
                connection.connect(check)
            return ""
        context = ssl.create_default_context(cafile=AUTHORITY) if check.startswith("https") else None
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
    while True:
        unit, state = unit_problem(units)
        problem = f"{unit} is {state}" if unit else ""
        if not unit:
            for check, serving in checks.items():
                if check in left:
                    if problem := check_problem(check):
                        unit = serving
                        break
                    del left[check]
        if not problem:
            return ""
        if state == "failed" or time.monotonic() > deadline:
            return f"{problem}\n{journal(unit)}"
        time.sleep(POLL_S)


def main() -> None:
    wish = json.load(sys.stdin)
    print(json.dumps({"problem": wait(wish["units"], wish["checks"], wish["limit_s"])}))


main()
