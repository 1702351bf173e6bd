"""A machine reached over SSH: Fabric makes the connection, commands run on channels of its transport.

Host keys are pinned. Those that are known (from cloud-init, or an earlier contact) must match; where none is known the
first contact pins what it meets (`host_key`). Another user than root is made root by sudo, which must not ask.
Channels are used directly, because Fabric's `run` copies standard input a character at a time.
Errors: SshError, whose message names node, address, cause and remedy; CommandError, with the command and what it said.
"""

from __future__ import annotations

import base64
import io
import logging
import shlex
import socket
import threading
import time
from collections.abc import Callable, Sequence

import fabric
import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import NoValidConnectionsError

from infra.install.connection import CommandError, File, SshError, tar_of

CONNECT_TIMEOUT_S = 20.0  # for each part of a connection; a guest without KVM on a busy host takes seconds
CHANNEL_TIMEOUT_S = 120.0  # to open one on a connection that stands
COMMAND_TIMEOUT_S = 900.0  # of silence
RETRY_S = 0.2
KEEPALIVE_S = 15
CHUNK_BYTES = 1 << 16
# paramiko logs with a traceback what it raises as well.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
Say = Callable[[str], None]


class Ssh:
    """One connection, made when first needed and again after it broke. Not for several threads."""

    def __init__(
        self,
        node: str,
        host: str,
        *,
        port: int = 22,
        user: str = "root",
        key: bytes | None = None,
        host_keys: tuple[str, ...] = (),
    ) -> None:
        """`key`: a private key as PEM or OpenSSH has it (absent: the agent's and the user's own). `host_keys`:
        `ssh-ed25519 AAAA…`, as in a .pub file."""
        self.node, self.host, self.port, self.user = node, host, port, user
        self._key = _private_key(key) if key else None
        self._pinned = [_public_key(line) for line in host_keys]
        self._connection: fabric.Connection | None = None

    @property
    def address(self) -> str:
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port != 22 else "")

    @property
    def host_key(self) -> str:
        """The pinned key, as in `host_keys`; empty before the first contact."""
        return f"{self._pinned[0].get_name()} {self._pinned[0].get_base64()}" if self._pinned else ""

    def wait(self, deadline_s: float, say: Say) -> None:
        """Until a command runs, for at most `deadline_s`; says what it waits for whenever that changes. A machine that
        boots refuses connections, resets them, and denies logins while cloud-init has not brought the key."""
        started, told = time.monotonic(), ""
        while True:
            try:
                self._connect()
                return
            except SshError as error:
                seen = str(error)
                if isinstance(error.__cause__, paramiko.BadHostKeyException) or "passphrase" in seen:
                    raise
            waited = time.monotonic() - started
            if waited > deadline_s:
                raise SshError(f"{seen} (waited {waited:.0f} s)")
            if seen != told:
                say(f"waiting for SSH: {seen}")
                told = seen
            time.sleep(RETRY_S)

    def run(self, command: Sequence[str], stdin: bytes | None = None) -> bytes:
        """As root, to its end; standard output. Errors: CommandError, SshError."""
        channel = self._open()
        try:
            channel.settimeout(COMMAND_TIMEOUT_S)
            channel.exec_command(remote_line(command, as_root=self.user == "root"))
            complaints: list[bytes] = []
            helpers = [
                threading.Thread(target=_send, args=(channel, stdin or b""), daemon=True),
                threading.Thread(target=_listen, args=(channel.recv_stderr, complaints), daemon=True),
            ]
            for helper in helpers:
                helper.start()
            output: list[bytes] = []
            _drain(channel.recv, output)
            for helper in helpers:
                helper.join()
            code = channel.recv_exit_status()
        except (OSError, EOFError, paramiko.SSHException) as error:
            self.close()
            raise self._lost(error) from error
        finally:
            channel.close()
        if code != 0:
            said = (b"".join(complaints).strip() or b"".join(output).strip()).decode(errors="replace")
            if code == -1:  # the connection ended before the command did
                self.close()
                raise SshError(f"node {self.node}: the connection broke: {said}".rstrip(": "))
            raise CommandError(self.node, command, code, "\n".join(said.splitlines()[-15:]))
        return b"".join(output)

    def put(self, files: Sequence[File]) -> None:
        """One command for all files; tar removes a file before it writes the new one."""
        if files:
            self.run(["tar", "--extract", "--numeric-owner", "--same-owner", "--file=-", "-C", "/"], tar_of(files))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> paramiko.Channel:
        for last in (False, True):
            try:
                return self._connect().open_session(timeout=CHANNEL_TIMEOUT_S)
            except (EOFError, OSError, paramiko.SSHException) as error:  # broken since its last use: once more
                self.close()
                if last:
                    raise self._lost(error) from error
        raise AssertionError("unreachable")

    def _lost(self, error: Exception) -> SshError:
        return SshError(f"node {self.node}: the connection to {self.address} broke: {error or type(error).__name__}")

    def _connect(self) -> paramiko.Transport:
        if self._connection is None:
            connection = self._new()
            try:
                connection.open()
            except Exception as error:
                connection.close()
                raise SshError(f"node {self.node}: {explain(error, self.host, self.port, self.user)}") from error
            transport: paramiko.Transport = connection.transport
            transport.set_keepalive(KEEPALIVE_S)
            if not self._pinned:
                self._pinned = [transport.get_remote_server_key()]
            self._connection = connection
        return self._connection.transport

    def _new(self) -> fabric.Connection:
        options: dict[str, object] = {"banner_timeout": CONNECT_TIMEOUT_S, "auth_timeout": CONNECT_TIMEOUT_S}
        config = None
        if self._key is not None:  # a machine of ours: nothing of the user's own SSH settings is meant for it
            options |= {"pkey": self._key, "allow_agent": False, "look_for_keys": False}
            config = fabric.Config(overrides={"load_ssh_configs": False})
        connection = fabric.Connection(
            self.host,
            user=self.user,
            port=self.port,
            connect_timeout=CONNECT_TIMEOUT_S,
            connect_kwargs=options,
            config=config,
        )
        if self._pinned:
            name = self.host if self.port == 22 else f"[{self.host}]:{self.port}"
            for pinned in self._pinned:
                connection.client.get_host_keys().add(name, pinned.get_name(), pinned)
            connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        return connection


def explain(error: Exception, host: str, port: int, user: str) -> str:
    """Cause and remedy, for a person."""
    place = f"{host} port {port}"
    if isinstance(error, paramiko.BadHostKeyException):
        return (
            f"the host key of {place} has changed (expected {_short(error.expected_key)}, got {_short(error.key)}): "
            "another machine answers there, or it was installed anew. If that is meant, remove the pinned key"
        )
    if isinstance(error, paramiko.AuthenticationException):
        return f"{user}@{host}: login denied ({error}): is the public key in that account's authorized_keys?"
    if isinstance(error, paramiko.PasswordRequiredException):
        return f"{user}@{host}: the private key has a passphrase: load it into ssh-agent"
    if isinstance(error, socket.gaierror):
        return f"{host}: no such host ({error.strerror}): give an address, or a name that resolves here"
    if isinstance(error, TimeoutError):
        return f"{place} does not answer: is the machine on, and is there a route to it?"
    if isinstance(error, (NoValidConnectionsError, ConnectionRefusedError)):
        return f"{place} refuses the connection: is sshd running there?"
    if isinstance(error, (paramiko.SSHException, EOFError)) and "key" not in str(error):
        return f"{place} answers, but no SSH session comes about: is it still booting?"
    if isinstance(error, (paramiko.SSHException, OSError)):
        return f"{place}: no SSH session: {error or type(error).__name__}"
    return f"{place}: {type(error).__name__}: {error}"


def _short(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.fingerprint}"


def remote_line(command: Sequence[str], *, as_root: bool) -> str:
    """What the login shell there is given; `as_root`: the login is root's already."""
    return shlex.join(command if as_root else ["sudo", "--non-interactive", "--", *command])


def _send(channel: paramiko.Channel, data: bytes) -> None:
    try:
        channel.sendall(data)
        channel.shutdown_write()
    except OSError:
        pass  # the command ended without reading on: its exit code tells


def _drain(read: Callable[[int], bytes], into: list[bytes]) -> None:
    while data := read(CHUNK_BYTES):
        into.append(data)


def _listen(read: Callable[[int], bytes], into: list[bytes]) -> None:
    """Most commands complain of nothing for as long as they run: how long that may be is for their output to tell."""
    while True:
        try:
            _drain(read, into)
            return
        except TimeoutError:
            continue


def _public_key(line: str) -> paramiko.PKey:
    kind, _, rest = line.strip().partition(" ")
    try:
        return paramiko.PKey.from_type_string(kind, base64.b64decode(rest.split(" ")[0], validate=True))
    except (ValueError, IndexError, UnknownKeyType, paramiko.SSHException) as error:
        raise SshError(f"host key {line!r}: is none: {type(error).__name__} {error}") from error


def _private_key(data: bytes) -> paramiko.PKey:
    """From any format that `cryptography` reads; paramiko itself takes OpenSSH's for every kind of key."""
    try:
        load = serialization.load_ssh_private_key if b"OPENSSH" in data else serialization.load_pem_private_key
        key = load(data, password=None)
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        ).decode()
    except (ValueError, TypeError) as error:  # never the key itself in a message
        raise SshError(f"the private key cannot be read: {error}") from error
    kinds = {ed25519.Ed25519PrivateKey: paramiko.Ed25519Key, ec.EllipticCurvePrivateKey: paramiko.ECDSAKey}
    kind = next((made for known, made in kinds.items() if isinstance(key, known)), paramiko.RSAKey)
    return kind.from_private_key(io.StringIO(text))
