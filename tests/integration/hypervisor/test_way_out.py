"""What guests send out leaves through the host under the host's address, if the host has a way out; the host's own
settings come back. On a host of the test's own: a network namespace, with another one as the world outside.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.hypervisor.guests import run

ROOT = Path(__file__).resolve().parents[3]
HOST, OUTSIDE = "192.0.2.10", "198.51.100.1"
PORT = "7"
# Tells who asks by what address.
SERVE = (
    "import socket; s=socket.create_server(('198.51.100.1', 7)); print('listening', flush=True)\n"
    "c, peer = s.accept(); c.sendall(peer[0].encode()); c.close()"
)


@pytest.fixture
def world() -> Iterator[tuple[str, str]]:
    names = (f"host-{os.getpid()}", f"outside-{os.getpid()}")
    for name in names:
        run("ip", "netns", "add", name)
        run("ip", "-netns", name, "link", "set", "lo", "up")
    host, outside = names
    run("ip", "-netns", host, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", outside)
    for name, address in ((host, f"{HOST}/24"), (outside, "192.0.2.1/24"), (outside, f"{OUTSIDE}/32")):
        run("ip", "-netns", name, "address", "add", address, "dev", "eth0")
        run("ip", "-netns", name, "link", "set", "eth0", "up")
    # A new namespace takes this from the real host.
    run("ip", "netns", "exec", host, "sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward")
    run("ip", "-netns", host, "route", "add", "default", "via", "192.0.2.1")
    yield host, outside
    for name in names:
        run("ip", "netns", "delete", name)


def play(host: str) -> subprocess.CompletedProcess[str]:
    folder = tempfile.mkdtemp(prefix="sampan-hv-", dir="/var/lib")
    command = [sys.executable, "-m", "tests.integration.hypervisor.way_out", folder, OUTSIDE, PORT]
    try:
        return subprocess.run(
            ["ip", "netns", "exec", host, *command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_guests_reach_the_outside_as_the_host(world: tuple[str, str]) -> None:
    host, outside = world
    with subprocess.Popen(
        ["ip", "netns", "exec", outside, sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "listening\n"
            done = play(host)
        finally:
            server.kill()
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen == {"before": "0", "during": "1", "told": HOST, "after": "0", "tables": ""}


def test_a_host_without_a_way_out_is_left_as_it_is(world: tuple[str, str]) -> None:
    host, _ = world
    run("ip", "-netns", host, "route", "delete", "default")
    done = play(host)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen == {"before": "0", "during": "0", "told": "TimeoutError: timed out", "after": "0", "tables": ""}
