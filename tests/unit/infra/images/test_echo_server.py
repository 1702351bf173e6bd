"""The echo server as its image runs it: a process on a free port, asked over each protocol and family."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SERVER = Path(__file__).resolve().parents[4] / "infra/images/echo_server.py"
LIMIT_S = 10.0


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    environment = {**os.environ, "PORT": str(number), "POD_NAME": "web-1", "NODE_NAME": "worker-1"}
    with subprocess.Popen([sys.executable, "-I", "-S", str(SERVER)], env=environment) as server:
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", number)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, "the server does not listen"
                time.sleep(0.01)
        yield number
        server.terminate()
        assert server.wait(LIMIT_S) == 0


def test_http_tells_pod_node_and_client(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/any?x=1", data=b"hello") as response:
        said: dict[str, Any] = json.load(response)
    assert (said["pod"], said["node"], said["client"]) == ("web-1", "worker-1", "127.0.0.1")
    assert (said["protocol"], said["method"], said["path"], said["body"]) == ("HTTP", "POST", "/any?x=1", "hello")


def test_http_keeps_a_connection(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as stream:
        for path in ("/1", "/2"):
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head: dict[bytes, bytes] = {}
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            while (line := stream.readline()) != b"\r\n":
                key, _, value = line.partition(b":")
                head[key] = value.strip()
            assert json.loads(stream.read(int(head[b"content-length"])))["path"] == path


def test_tcp_gives_each_line_back(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as stream:
        for line in ("one", "two"):
            connection.sendall(f"{line}\n".encode())
            said = json.loads(stream.readline())
            assert (said["protocol"], said["body"]) == ("TCP", line)


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_udp_on_both_families(port: int, family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as asker:
        asker.settimeout(LIMIT_S)
        asker.sendto(b"ping", (address, port))
        said = json.loads(asker.recv(65536))
    assert (said["protocol"], said["body"], said["client"]) == ("UDP", "ping", address)
