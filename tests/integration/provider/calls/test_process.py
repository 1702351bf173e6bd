"""The provider's process and its configuration: how it begins, how it ends, which libvirtd it speaks to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime.proto import provider_pb2

from infra.hypervisor.libvirtd import Libvirtd
from infra.provider.properties import decode, encode
from tests.integration.provider.calls.small_engine import CHECKOUT, Failed, Provider, Resource

END_TIMEOUT_S = 15
# `nc -U SOCKET`, which libvirt runs on the other machine, and which not every machine has.
NETCAT = """
import socket, sys, threading
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[-1])
def back():
    while data := line.recv(65536):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
threading.Thread(target=back, daemon=True).start()
while data := sys.stdin.buffer.raw.read(65536):
    line.sendall(data)
"""


def started(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "infra.provider", "127.0.0.1:1"],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_its_port_and_ends_without_a_word(number: signal.Signals) -> None:
    process = started()
    assert process.stdout is not None
    assert 0 < int(process.stdout.readline()) < 65536
    process.send_signal(number)
    said, complained = process.communicate(timeout=END_TIMEOUT_S)
    assert (said, complained, process.returncode) == ("", "", 0)


def test_it_ends_when_its_engine_was_killed() -> None:
    """The shell is the engine here: it starts the provider, tells its number, and is killed."""
    script = f'"{sys.executable}" -m infra.provider 127.0.0.1:1 & echo $!; wait'
    shell = subprocess.Popen(["sh", "-c", script], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert shell.stdout is not None
    pid = int(shell.stdout.readline())
    shell.stdout.readline()  # the port: it serves
    shell.kill()
    shell.wait()
    deadline = time.monotonic() + END_TIMEOUT_S
    while Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, "the provider outlives its engine"
        time.sleep(0.05)


def test_the_uri_in_effect_is_in_the_state(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a changed LIBVIRT_DEFAULT_URI would go unnoticed."""
    answer = provider.call("CheckConfig", provider_pb2.CheckRequest(news=encode({})))
    default = decode(answer.inputs).values["uri"]
    assert default == os.environ.get("LIBVIRT_DEFAULT_URI", "qemu:///system")
    answer = provider.call("CheckConfig", provider_pb2.CheckRequest(news=encode({"uri": "qemu+ssh://h/system"})))
    assert decode(answer.inputs).values == {"uri": "qemu+ssh://h/system"}
    request = provider_pb2.DiffRequest(old_inputs=encode({"uri": "a"}), news=encode({"uri": "b"}))
    answer = provider.call("DiffConfig", request)
    assert (answer.changes, list(answer.replaces)) == (provider_pb2.DiffResponse.DIFF_SOME, [])
    wrong = provider.call("CheckConfig", provider_pb2.CheckRequest(news=encode({"url": "qemu:///system"})))
    assert [failure.property for failure in wrong.failures] == ["url"]


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        pytest.param("qemu:///system?socket=/nowhere/sock", r"No libvirtd runs there.*sampan toolchain", id="none"),
        pytest.param(
            "qemu+ssh://127.0.0.1:1/system", r"libvirt at qemu\+ssh://127.0.0.1:1/system: .*refused", id="no-ssh"
        ),
        pytest.param("nonsense://", r"libvirt at nonsense://", id="nonsense"),
    ],
)
def test_a_libvirtd_that_does_not_answer(tmp_path: Path, uri: str, words: str) -> None:
    provider = Provider(uri, tmp_path)
    try:
        with pytest.raises(Failed, match=words):
            Resource(provider, "Pool", "pool").up({"name": "pool", "type": "dir", "target": {"path": str(tmp_path)}})
    finally:
        provider.close()


def test_libvirtd_was_restarted(libvirtd: Libvirtd, resource: Any, connection: Any, tmp_path: Path) -> None:
    """A connection that is dead is opened again; here the provider's own, and that of the test."""
    inputs = {"name": "pool", "type": "dir", "target": {"path": str(tmp_path / "pool")}}
    pool = resource("Pool", "pool")
    pool.up(inputs)
    libvirtd.restart()
    assert pool.refresh()
    assert pool.up(inputs) == "same"


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[str]:
    """An SSH server on this machine's loopback, for root with a key of the test's; the start of a URI."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    (tmp_path / "authorized").write_bytes((tmp_path / "user.pub").read_bytes())
    Path("/run/sshd").mkdir(exist_ok=True)
    server = shutil.which("sshd", path="/usr/sbin:/sbin")
    assert server is not None, "openssh-server is not installed"
    port = 20000 + os.getpid() % 20000
    options = (
        *(f"ListenAddress=127.0.0.1:{port}", f"HostKey={tmp_path}/host", f"AuthorizedKeysFile={tmp_path}/authorized"),
        *("StrictModes=no", "PermitRootLogin=yes", "UsePAM=no", f"PidFile={tmp_path}/pid"),
    )
    arguments = [argument for option in options for argument in ("-o", option)]
    process = subprocess.Popen([server, "-D", "-f", "/dev/null", *arguments], stderr=subprocess.DEVNULL)
    (tmp_path / "ssh").write_text(f'#!/bin/sh\nexec ssh -o UserKnownHostsFile={tmp_path}/known "$@"\n')
    (tmp_path / "nc").write_text(f"#!{sys.executable}\n{NETCAT}")
    for name in ("ssh", "nc"):
        (tmp_path / name).chmod(0o755)
    options_of_uri = f"keyfile={tmp_path}/user&no_verify=1&command={tmp_path}/ssh&netcat={tmp_path}/nc"
    yield f"qemu+ssh://root@127.0.0.1:{port}/system?{options_of_uri}"
    process.terminate()
    process.wait()


def test_a_libvirtd_behind_ssh(ssh: str, libvirtd: Libvirtd, connection: Any, tmp_path: Path) -> None:
    provider = Provider(f"{ssh}&socket={libvirtd.socket}", tmp_path / "home")
    domain = Resource(provider, "Domain", "far")
    try:
        assert domain.up({"name": "far", "type": "qemu", "memory": 64}) == "create"
        assert [each.name() for each in connection.listAllDomains()] == ["far"]
        assert domain.refresh()
    finally:
        domain.delete()
        provider.close()


def test_what_the_hypervisor_is_made_of(provider: Provider) -> None:
    def invoke(function: str, /, **arguments: Any) -> dict[str, Any]:
        request = provider_pb2.InvokeRequest(tok=f"libvirt:index/{function}:{function}", args=encode(arguments))
        return decode(getattr(provider.call("Invoke", request), "return")).values

    node = invoke("getNodeInfo")
    assert node["cpuModel"] == os.uname().machine
    assert node["memoryTotalKb"] * 1024 <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") + (1 << 30)
    devices = invoke("getNodeDevices")["devices"]
    assert "computer" in devices
    assert invoke("getNodeDevices", capability="net")["devices"]
    assert invoke("getNodeDeviceInfo", name="computer")["capability"]["type"] == "system"
    rendered = invoke("getNetworkDnsHostTemplate", ip="10.0.0.1", hostname="a")["rendered"]
    assert rendered == {"ip": "10.0.0.1", "hostname": "a"}
    with pytest.raises(Failed, match="there is no device nonsense on the hypervisor"):
        invoke("getNodeDeviceInfo", name="nonsense")
