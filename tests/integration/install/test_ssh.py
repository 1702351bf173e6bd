"""Commands and files over a real SSH connection, and what a person is told when there is none."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from infra.install.connection import CommandError, File, SshError
from infra.install.ssh import Ssh
from tests.integration.install import sshd as sshds
from tests.integration.install.sshd import Sshd


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with sshds.prepared(tmp_path) as made:
        made.start()
        yield made


def test_a_command_gets_its_input_and_its_output_comes_back(sshd: Sshd) -> None:
    data = os.urandom(3_000_000)  # more than any buffer on the way
    ssh = sshd.connection()
    assert ssh.run(["cat"], data) == data
    assert ssh.run(["printf", "%s|", "two words", "$HOME", "a'b"]) == b"two words|$HOME|a'b|"
    ssh.close()


def test_a_failed_command_says_where_what_and_why(sshd: Sshd) -> None:
    script = "for i in $(seq 100); do echo line $i >&2; done; exit 7"
    with pytest.raises(CommandError) as caught:
        sshd.connection().run(["sh", "-c", script])
    assert caught.value.code == 7
    assert caught.value.said.splitlines()[-1] == "line 100"
    assert len(caught.value.said.splitlines()) == 15
    assert str(caught.value).startswith("on node node-1: sh -c")


def test_a_command_that_reads_nothing_may_be_given_much(sshd: Sshd) -> None:
    with pytest.raises(CommandError, match="no thanks"):
        sshd.connection().run(["sh", "-c", "echo no thanks; exit 1"], bytes(5_000_000))


def test_files_arrive_with_owner_and_mode(sshd: Sshd, tmp_path: Path) -> None:
    made = [
        File(path=f"{tmp_path}/there/key", content=b"secret", mode=0o600, user_id=4_194_304, group_id=990),
        File(path=f"{tmp_path}/there/config", content=b"open"),
    ]
    ssh = sshd.connection()
    ssh.put(made)
    ssh.put(made)  # again, over what is there
    seen = (tmp_path / "there/key").stat()
    assert (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)) == (4_194_304, 990, 0o600)
    assert (tmp_path / "there/config").read_bytes() == b"open"


def test_the_first_contact_pins_the_host_key(sshd: Sshd, tmp_path: Path) -> None:
    first = sshd.connection(host_keys=())
    first.run(["true"])
    assert sshd.host_key.startswith(first.host_key)
    first.close()
    sshd.stop()
    sshds.new_key(tmp_path / "host")
    sshd.start()
    with pytest.raises(SshError, match=r"host key of 127\.0\.0\.1 port \d+ has changed .* remove the pinned key"):
        first.run(["true"])


def test_waiting_ends_at_once_where_the_host_key_is_another(sshd: Sshd, tmp_path: Path) -> None:
    sshds.new_key(tmp_path / "other")
    started = time.monotonic()
    with pytest.raises(SshError, match="another machine answers there"):
        sshd.connection(host_keys=((tmp_path / "other.pub").read_text(),)).wait(60, print)
    assert time.monotonic() - started < 20


def test_a_key_that_is_not_known_there_is_denied(sshd: Sshd, tmp_path: Path) -> None:
    sshds.new_key(tmp_path / "stranger")
    ssh = sshd.connection(key=(tmp_path / "stranger").read_bytes())
    with pytest.raises(SshError, match=r"root@127\.0\.0\.1: login denied .* authorized_keys\?"):
        ssh.run(["true"])


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_of_each_kind_and_format_log_in(kind: str, sshd: Sshd, tmp_path: Path) -> None:
    key = {
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
    }[kind]()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (tmp_path / "authorized_keys").write_bytes(public + b"\n")
    for form in (serialization.PrivateFormat.OpenSSH, serialization.PrivateFormat.PKCS8):
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        assert sshd.connection(key=pem).run(["echo", "in"]) == b"in\n"


def test_what_is_no_key_is_refused_without_showing_it() -> None:
    with pytest.raises(SshError, match="private key cannot be read") as caught:
        Ssh("node-1", "127.0.0.1", key=b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n")
    assert "c2VjcmV0" not in str(caught.value)
    with pytest.raises(SshError, match="host key 'ssh-nonsense abc'"):
        Ssh("node-1", "127.0.0.1", host_keys=("ssh-nonsense abc",))


def test_waiting_says_what_for_and_goes_on_when_sshd_comes(tmp_path: Path) -> None:
    said: list[str] = []
    with sshds.prepared(tmp_path) as sshd:
        ssh = sshd.connection()
        told = threading.Event()

        def say(text: str) -> None:
            said.append(text)
            told.set()

        waiting = threading.Thread(target=ssh.wait, args=(60, say))
        waiting.start()
        assert told.wait(30)
        sshd.start()
        waiting.join(30)
        assert not waiting.is_alive()
        assert ssh.run(["echo", "there"]) == b"there\n"
    assert said == [
        f"waiting for SSH: node node-1: 127.0.0.1 port {sshd.port} refuses the connection: is sshd running there?"
    ]


def test_waiting_has_a_limit_and_says_why(tmp_path: Path) -> None:
    with sshds.prepared(tmp_path) as sshd, pytest.raises(SshError, match=r"refuses the connection.*\(waited \d+ s\)"):
        sshd.connection().wait(0.5, lambda text: None)


def test_a_port_that_speaks_no_ssh_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        def hang_up() -> None:
            listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(SshError, match=f"127.0.0.1 port {port} answers, but no SSH session comes about"):
            Ssh("node-1", "127.0.0.1", port=port).run(["true"])


def test_a_broken_connection_is_made_again(sshd: Sshd) -> None:
    ssh = sshd.connection()
    parent = int(ssh.run(["sh", "-c", "echo $PPID"]))
    os.kill(parent, 9)  # the session's own sshd
    assert ssh.run(["echo", "again"]) == b"again\n"
