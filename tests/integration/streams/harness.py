"""A real API server and a real kubelet server on this machine's loopback, with local processes in place of containers.

The porter's socket is real too; its one pod is on the node's own network, so that its localhost is ours.
"""

import asyncio
import fcntl
import os
import socket
import struct
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest_asyncio
import yaml

from infra import pki
from infra.topology import Topology
from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES, PODS, SERVICEACCOUNTS
from orchestrator.apiserver.access import AccessConfig
from orchestrator.apiserver.main import Config as ServerConfig
from orchestrator.apiserver.main import running
from orchestrator.client.client import Client
from orchestrator.kubelet.config import Config as KubeletConfig
from orchestrator.kubelet.porter import CgroupStat, PodKey
from orchestrator.kubelet.runtime.interface import ContainerState, ExecResult, PodState, RuntimeFailure, State
from orchestrator.kubelet.server.access import Access
from orchestrator.kubelet.server.interface import STDERR, STDOUT, Output, Process, Size
from orchestrator.kubelet.server.server import Endpoints, listening
from orchestrator.porter.network import Network, Places
from orchestrator.porter.pods import Pods as PorterPods
from orchestrator.porter.processes import IdMap
from orchestrator.porter.records import Records
from orchestrator.porter.server import Server

NODE = "node-1"


class LocalProcess:
    """A process of this machine, with pipes or a terminal."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int | None) -> None:
        self._process, self._terminal = process, terminal
        self._chunks: asyncio.Queue[tuple[Output, bytes] | None] = asyncio.Queue()
        self._tasks = []
        if terminal is None:
            for reader, output in ((process.stdout, STDOUT), (process.stderr, STDERR)):
                assert reader is not None
                self._tasks.append(asyncio.create_task(self._read(reader, output)))
        else:
            asyncio.get_running_loop().add_reader(terminal, self._read_terminal)

    async def _read(self, reader: asyncio.StreamReader, output: Output) -> None:
        while data := await reader.read(65536):
            self._chunks.put_nowait((output, data))
        self._chunks.put_nowait(None)

    def _read_terminal(self) -> None:
        assert self._terminal is not None
        try:
            self._chunks.put_nowait((STDOUT, os.read(self._terminal, 65536)))
        except OSError:  # the last process of the terminal has ended
            asyncio.get_running_loop().remove_reader(self._terminal)
            self._chunks.put_nowait(None)

    async def output(self) -> AsyncIterator[tuple[Output, bytes]]:
        left = len(self._tasks) or 1
        while left:
            chunk = await self._chunks.get()
            if chunk is None:
                left -= 1
            else:
                yield chunk

    async def write(self, data: bytes) -> None:
        if self._terminal is not None:
            os.write(self._terminal, data)
            return
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def end_input(self) -> None:
        if self._terminal is None and self._process.stdin is not None:
            self._process.stdin.close()

    async def resize(self, size: Size) -> None:
        if self._terminal is not None:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    async def exit_code(self) -> int:
        return await self._process.wait()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._terminal is not None:
            asyncio.get_running_loop().remove_reader(self._terminal)
            os.close(self._terminal)
            self._terminal = None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


class LocalStreaming:
    """The streams of local processes; attach goes to a `cat`."""

    async def exec(
        self, container_id: str, command: list[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> Process:
        pipe = asyncio.subprocess.PIPE
        try:
            if not tty:
                made = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
                return LocalProcess(made, None)
            terminal, inner = os.openpty()
            try:
                made = await asyncio.create_subprocess_exec(
                    *command, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
                )
            finally:
                os.close(inner)
            return LocalProcess(made, terminal)
        except FileNotFoundError as error:
            raise RuntimeFailure(f'exec: "{command[0]}": executable file not found in $PATH') from error

    async def attach(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Process:
        return await self.exec(container_id, ["cat"], stdin=stdin, stdout=stdout, stderr=stderr, tty=tty)


class Commands:
    async def exec(self, container_id: str, command: list[str], timeout_s: float) -> ExecResult:
        made = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await made.communicate()
        return ExecResult(made.returncode or 0, out.decode())


class NoGroups:
    """A porter that holds no limits."""

    async def call(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    async def cgroup_stat(self, pod: PodKey, container: str) -> CgroupStat:
        return CgroupStat()


@dataclass
class PodTable:
    """The pods of the kubelet and of the porter's informer, and what runs in them."""

    pods: list[Object] = field(default_factory=list)
    states: dict[str, PodState] = field(default_factory=dict)

    def all(self) -> list[Object]:
        return self.pods

    def get(self, namespace: str, name: str) -> Object | None:
        return next((pod for pod in self.pods if meta.key(pod) == f"{namespace}/{name}"), None)

    async def state(self, uid: str) -> PodState:
        return self.states.get(uid) or PodState(uid=uid)

    def by_index(self, index: str, value: str) -> list[Object]:
        return [pod for pod in self.pods if meta.uid(pod) == value]


@dataclass
class Streams:
    """What a test works with."""

    client: Client
    table: PodTable
    kubeconfig: Path
    log_dir: Path
    server: str
    pki: Path

    async def kubectl(
        self, *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        """(exit code, output, errors)."""
        made = await asyncio.create_subprocess_exec(
            "kubectl", "--kubeconfig", str(self.kubeconfig), *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=os.environ | dict(environment or {}),
        )  # fmt: skip
        async with asyncio.timeout(30):
            out, err = await made.communicate(stdin)
        return made.returncode or 0, out.decode(), err.decode()

    def log(self, name: str, container: str) -> Path:
        pod = self.table.get("default", name)
        assert pod is not None
        folder = self.log_dir / f"default_{name}_{meta.uid(pod)}" / container
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "0.log"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def make_pod(client: Client, table: PodTable, name: str, *containers: str, waiting: bool = False) -> None:
    listed = [{"name": container, "image": "busybox:1", "stdin": True} for container in containers]
    spec = {"nodeName": NODE, "containers": listed, "hostNetwork": True}
    pod = await client.create(PODS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    ready = "False" if waiting else "True"
    status = {
        "phase": "Pending" if waiting else "Running",
        "podIP": "127.0.0.1",
        "conditions": [{"type": kind, "status": ready} for kind in ("Ready", "ContainersReady")],
    }
    pod = await client.patch(PODS, name, "default", {"status": status}, subresource="status")
    table.pods.append(pod)
    if not waiting:
        running_ones = [
            ContainerState(id=f"{name}-{container}", name=container, kind="app", state=State.RUNNING, pid=os.getpid())
            for container in containers
        ]
        table.states[meta.uid(pod)] = PodState(uid=meta.uid(pod), containers=tuple(running_ones))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def streams(tmp_path_factory: Any) -> AsyncIterator[Streams]:
    here: Path = tmp_path_factory.mktemp("streams")
    keys = here / "pki"
    pki.ensure(keys, Topology(name="streams", workers=0))
    port, kubelet_port = free_port(), free_port()
    settings = ServerConfig(
        advertise_address="127.0.0.1",
        bind_addresses=("127.0.0.1",),
        port=port,
        store_path=str(here / "store.db"),
        tls_certificate_file=str(keys / "apiserver.crt"),
        tls_key_file=str(keys / "apiserver.key"),
        client_ca_file=str(keys / "ca.crt"),
        access=AccessConfig(service_account_signing_key_file=str(keys / "sa.key")),
        kubelet_client_certificate_file=str(keys / "apiserver-kubelet-client.crt"),
        kubelet_client_key_file=str(keys / "apiserver-kubelet-client.key"),
    )
    kubelet_settings = KubeletConfig(
        node_name=NODE,
        node_ips=["127.0.0.1"],
        log_dir=str(here / "logs"),
        porter_socket=str(here / "porter.sock"),
        address="127.0.0.1",
        port=kubelet_port,
        # The API server's own certificate is for 127.0.0.1.
        tls_cert_file=str(keys / "apiserver.crt"),
        tls_private_key_file=str(keys / "apiserver.key"),
        client_ca_file=str(keys / "ca.crt"),
    )
    table = PodTable()
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(running(settings))
        known = PorterPods(table, NODE, None)
        network = Network(Places(), NODE, known, Records(here / "records"), IdMap(0, 0, 0, 0, 0, 0))
        porter = Server(here / "porter.sock", network.verbs(), frozenset({0}), 0)
        serving = asyncio.create_task(porter.serve())
        endpoints = Endpoints(kubelet_settings, table, Commands(), LocalStreaming(), NoGroups())
        await stack.enter_async_context(listening(kubelet_settings, endpoints, Access(api.client, NODE)))
        await prepare(api.client, kubelet_port)
        for name, containers in (("one", ("main",)), ("two", ("left", "right"))):
            await make_pod(api.client, table, name, *containers)
        await make_pod(api.client, table, "waiting", "main", waiting=True)
        kubeconfig = here / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(kubeconfig_of(port, keys)))
        yield Streams(api.client, table, kubeconfig, here / "logs", f"https://127.0.0.1:{port}", keys)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def prepare(client: Client, kubelet_port: int) -> None:
    await client.create(SERVICEACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}})
    node = await client.create(NODES, {"metadata": {"name": NODE}})
    node["status"] = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
    }
    await client.update(NODES, node, subresource="status")


def kubeconfig_of(port: int, keys: Path) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [
            {
                "name": "test",
                "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(keys / "ca.crt")},
            }
        ],
        "users": [
            {
                "name": "admin",
                "user": {"client-certificate": str(keys / "admin.crt"), "client-key": str(keys / "admin.key")},
            }
        ],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
    }
