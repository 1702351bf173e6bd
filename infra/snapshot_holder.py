"""Hold virtual machines still for as long as somebody reads, and let them run on afterwards, whatever happens to him.

    python -m infra.snapshot_holder URI DOMAIN… [-- URI DOMAIN…]

All are paused one right after the other; then it says `held`. When its standard input closes, those that ran before run
on, as soon as libvirt has finished what it does with them (a save that was interrupted goes on to its end).
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.provider import binding
from infra.provider.binding import libvirt

ROOT = Path(__file__).resolve().parents[1]
RESUME_TIMEOUT_S = 300.0
RETRY_S = 0.1


@contextmanager
def held(domains: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """`domains`: names by URI. Errors: RuntimeError with the reason; then they run on."""
    words = [word for uri, names in domains.items() for word in ("--", uri, *names)]
    with subprocess.Popen(
        [sys.executable, "-m", "infra.snapshot_holder", *words[1:]], cwd=ROOT, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,  # the terminal's Ctrl-C is not for it
    ) as holder:  # fmt: skip
        assert holder.stdin and holder.stdout and holder.stderr
        try:
            if holder.stdout.readline() != "held\n":
                said = holder.stderr.read().strip().splitlines()
                raise RuntimeError(f"machines could not be paused: {said[-1] if said else 'no reason was given'}")
            yield
        finally:
            holder.stdin.close()
        if holder.wait() != 0:
            said = holder.stderr.read().strip().splitlines()
            raise RuntimeError(f"machines are still paused: {said[-1] if said else 'no reason was given'}")


def pause(domains: Sequence[Any]) -> list[Any]:
    """Those that ran."""
    paused: list[Any] = []
    for domain in domains:
        if domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING:
            paused.append(domain)
            domain.suspend()
    return paused


def resume(domains: Sequence[Any]) -> None:
    deadline = time.monotonic() + RESUME_TIMEOUT_S
    for domain in domains:
        while True:
            try:
                if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
                    domain.resume()
                break
            except libvirt.libvirtError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    found: list[Any] = []
    words = sys.argv[1:]
    while words:
        end = words.index("--") if "--" in words else len(words)
        connection = binding.connect(words[0])
        found += [connection.lookupByName(name) for name in words[1:end]]
        words = words[end + 1 :]
    ran: list[Any] = []
    try:
        ran = pause(found)
        print("held", flush=True)
        sys.stdin.read()
    finally:
        resume(ran or found)


if __name__ == "__main__":
    main()
