"""A node's installation as a Pulumi resource: its inputs are hashes of what is laid down, its update lays it down.

`files` maps each path or step to a hash (infra/install/vm.py, fingerprint), so that a preview says which node changes
and why; `machine` is the domain's id, so that a machine that was made anew is installed anew; after a change of `size`
it has restarted, and its node is waited for. Everything else is what the installation needs to reach the machine, and
changes nothing by itself.
Deleting drains the node and removes its Node object, if the lab goes on without it (lab.json says so).
The class is pickled into the state by name alone: it must stay importable as it is called here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from infra.install import vm
from infra.install.connection import SshError
from infra.libvirt import cluster, registry
from infra.libvirt.arguments import domain_name
from infra.provider import binding, waiting
from infra.provider.engine import Engine
from infra.topology import CONTROL_PLANE, Node, Topology, TopologyError

if TYPE_CHECKING:
    from infra.install.ssh import Ssh

BOOT_TIMEOUT_S = 600.0  # from power-on to SSH, of an image of the user on a busy machine without KVM
CONSOLE_LINES = 8
REASONS = ("files", "machine", "size")  # a change of these is a reason to install again


class MachineUnreachable(RuntimeError):
    """A machine of the lab has no network, or does not boot; the message says what to look at, and has the end of its
    console."""


@dataclass(frozen=True)
class Installation:
    """The inputs, parsed."""

    topology: Topology
    node: Node
    keys: Mapping[str, bytes]
    ssh_key: bytes
    host_key: str
    wheel: Path
    own_image: bool  # the machine's image is the user's: Debian packages have to come first

    @staticmethod
    def of(props: Mapping[str, Any]) -> Installation:
        topology = Topology.from_data(json.loads(props["topology"]))
        return Installation(
            topology=topology,
            node=topology.node(props["node"]),
            keys={name: text.encode() for name, text in props["keys"].items()},
            ssh_key=props["sshKey"].encode(),
            host_key=props["hostKey"],
            wheel=Path(props["wheel"]),
            own_image=bool(props.get("ownImage")),
        )

    @property
    def console(self) -> Path:
        return registry.folder(self.topology.name) / registry.CONSOLE / f"{self.node.name}.log"

    @property
    def kubeconfig(self) -> Path:
        return registry.folder(self.topology.name) / registry.KUBECONFIG


def install(todo: Installation, say: Callable[[str], None]) -> None:
    """Reach the machine, do what is missing on it, wait until the cluster has it Ready."""
    from infra.install.ssh import Ssh  # Fabric: most runs of the program and of its plugin install nothing

    node, began = todo.node, time.time()
    machine = Ssh(node.name, node.address_v4, key=todo.ssh_key, host_keys=(todo.host_key,))
    try:
        wish = vm.wanted(todo.topology, node, todo.keys, todo.wheel, own_image=todo.own_image)
        done = persistently(
            lambda: reach(machine, todo.console, say, trouble=lambda: trouble(todo.topology, node)),
            lambda: vm.install(machine, wish, say, lambda: started(todo, say)),
            say,
        )
    finally:
        machine.close()
    control_planes = [one.name for one in todo.topology.nodes if one.role == CONTROL_PLANE]
    # What an earlier kubelet said says nothing now.
    since = began if done is None or any("kubelet" in step for step in done) else 0.0
    cluster.wait_ready(todo.kubeconfig, node.name, control_planes, since, say)
    cluster.uncordon(todo.kubeconfig, node.name)  # it may have been drained for a restart
    if node.role != CONTROL_PLANE:  # those are installed before the cloud controller
        cluster.wait_initialized(todo.kubeconfig, node.name, say)
    registry.note_installed(todo.topology.name, node.name, is_so=True)


def persistently(
    reach: Callable[[], None], install: Callable[[], Sequence[str]], say: Callable[[str], None]
) -> Sequence[str] | None:
    """The steps that were needed; None where the machine went away meanwhile and came back (an emulated kernel may
    panic, and starts again), so that nobody knows all of them. Twice is too often."""
    reach()
    try:
        return install()
    except vm.ConnectionLost as error:
        say(str(error))
    reach()
    install()
    return None


def started(todo: Installation, say: Callable[[str], None]) -> None:
    """A worker is installed while its control plane still is: its components wait for the API, and so does this."""
    if todo.node.role != CONTROL_PLANE:
        cluster.wait_api(todo.kubeconfig, todo.node.name, say)


def reach(
    machine: Ssh,
    console: Path,
    say: Callable[[str], None],
    limit_s: float = BOOT_TIMEOUT_S,
    trouble: Callable[[], str] = lambda: "",
) -> None:
    """Wait for SSH. A machine that cannot be reached has at least said something on its serial port. `trouble`: what
    its hypervisor knows of it."""
    try:
        machine.wait(limit_s, say)
    except SshError as error:
        if not console.exists():  # on another hypervisor, whose files are not here
            raise MachineUnreachable(f"{error}\n{trouble() or 'See what its console says (virsh console)'}") from error
        said = console.read_text(errors="replace").splitlines()
        lines = [line for line in said if line.strip()][-CONSOLE_LINES:]
        shown = "\n".join(lines) or "(nothing)"
        raise MachineUnreachable(
            f"{error}\n{trouble() or guess(lines)}\nIts serial console said last ({console}):\n{shown}"
        ) from error


def guess(console: Sequence[str]) -> str:
    """What to do about a machine that runs and does not answer; `console`: its last lines."""
    if not console:
        return (
            "It has said nothing: if its image is your own (pulumi config get sampan:image), it must boot by BIOS and "
            "have its console on ttyS0 (console=ttyS0), as Debian's cloud images do"
        )
    if any("Kernel panic" in line for line in console):
        return "Its kernel has panicked: the image is broken, or the machine too small; make the lab anew with another"
    return (
        "It boots, but has no network or no SSH: cloud-init must set both up from its NoCloud disk (cidata); "
        "log in on its console (virsh console), or look at what it said"
    )


def trouble(topology: Topology, node: Node) -> str:
    """Why the machine cannot answer, by its hypervisor; empty where it runs, and where nobody can tell."""
    lab = registry.read(topology.name)
    try:
        connection = binding.connect(node.hypervisor or (lab.uri if lab else ""))
        domain = connection.lookupByName(domain_name(topology.name, node.name))
    except binding.ConnectionFailed as error:
        return f"Its hypervisor does not answer: {error}"
    except binding.libvirt.libvirtError:
        return ""
    if not domain.isActive():
        return f"Its machine is off: {waiting.last_words(domain)}. Run it again with --refresh: that starts it"
    stopped = waiting.stuck(domain)
    return f"Its machine has stopped: {stopped}" if stopped else ""


def leave(props: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Nothing where the whole lab goes, or where its control plane has gone already."""
    name = props["node"]
    lab = registry.read(json.loads(props["topology"])["name"])
    if lab is None or _has(lab.topology, name):
        return
    kubeconfig = registry.folder(lab.name) / registry.KUBECONFIG
    cluster.drain(kubeconfig, name, say, with_bare=True)
    cluster.forget(kubeconfig, name)
    registry.note_installed(lab.name, name, is_so=False)


def _has(topology: Topology, node: str) -> bool:
    try:
        topology.node(node)
    except TopologyError:
        return False
    return True


def speaker() -> Callable[[str], None]:
    """Says things as status lines of the running update; the engine's address is a plugin's last argument."""
    address = sys.argv[-1] if ":" in sys.argv[-1] else ""
    engine = Engine(address)
    return lambda message: engine.say("", message)


class NodeProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=any(olds.get(key) != news.get(key) for key in REASONS))

    def create(self, props: dict[str, Any]) -> CreateResult:
        install(Installation.of(props), speaker())
        return CreateResult(props["node"], props)

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        install(Installation.of(news), speaker())
        return UpdateResult(news)

    def delete(self, _id: str, props: dict[str, Any]) -> None:
        leave(props, speaker())


class NodeInstall(Resource, module="sampan", name="NodeInstall"):
    def __init__(self, name: str, props: Mapping[str, Any], options: pulumi.ResourceOptions) -> None:
        """`props`: topology, node, machine, size, files, wheel, ownImage, hostKey in clear; keys, sshKey as secrets."""
        secret = pulumi.ResourceOptions(additional_secret_outputs=["keys", "sshKey"])
        super().__init__(NodeProvider(), name, dict(props), pulumi.ResourceOptions.merge(options, secret))
