"""`./sampan`: bring labs up and down, look at them, get into their nodes, run the tests."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra import checks, kubeconfig, nodes, snapshot_command, store_command, up_libvirt, vm_lab
from infra.host import HostError
from infra.images import built
from infra.images.tree import BuildError
from infra.libvirt import registry
from infra.local import container_images, lab, logs
from infra.local.control import Control, NotRunning
from infra.local.layout import Layout
from infra.local.up import up as bring_up
from infra.progress import Steps
from infra.progress import console as progress
from infra.status import api_nodes
from infra.status import status as observe
from infra.toolchain import command as toolchain
from infra.topology import BACKENDS, LIBVIRT, LOCAL, MACHINES, Machine, Topology, TopologyError
from infra.up import Up

DEFAULT_NAME = "lab"
WORKERS = 2
PIPE_COLUMNS = 200  # where nobody says how wide the reader is

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
fault = typer.Typer(no_args_is_help=True, help="Break something on purpose, and heal it.")
app.add_typer(fault, name="fault")
image = typer.Typer(no_args_is_help=True, help="Container images of the nodes.")
app.add_typer(image, name="image")
app.add_typer(toolchain.app, name="toolchain")
app.add_typer(snapshot_command.app, name="snapshot")
app.add_typer(store_command.app, name="store")
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_COLUMNS)

Name = Annotated[str, typer.Option("--name", help="Which lab.")]
Output = Annotated[str, typer.Option("--output", "-o", help="table or json")]


@app.command()
def up(
    name: Name = DEFAULT_NAME,
    backend: Annotated[
        str | None,
        typer.Option(help="local (namespaces), libvirt (virtual machines), or machines; or what the lab is."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Worker nodes; 2, or what the lab has.")] = None,
    control_planes: Annotated[int | None, typer.Option(help="Control-plane nodes; 1, or what the lab has.")] = None,
    separate: Annotated[bool, typer.Option("--separate", help="Every component is a process of its own.")] = False,
    memory: Annotated[int | None, typer.Option(help="MiB of each virtual machine.")] = None,
    vcpus: Annotated[int | None, typer.Option(help="Processors of each virtual machine.")] = None,
    disk: Annotated[int | None, typer.Option(help="GiB of each virtual machine's disk.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Look first what has become of the machines.")] = False,
    machine: Annotated[
        list[str] | None,
        typer.Option(help="A machine that you have, [user@]host[:port]; control plane first, once for each node."),
    ] = None,
    ssh_key: Annotated[
        Path | None, typer.Option("--ssh-key", help="The private key for --machine; else your SSH settings'.")
    ] = None,
    kubeconfig_file: Annotated[
        Path | None, typer.Option("--kubeconfig", help="Where to add the context; default as kubectl.")
    ] = None,
) -> None:
    """Bring a cluster up, on this machine or on virtual ones; again: repair it."""
    kind = backend or (MACHINES if machine else registry.backend(name)) or LOCAL
    if kind not in BACKENDS:
        raise TopologyError(f"--backend: {kind!r}: must be one of {', '.join(BACKENDS)}")
    only_vms = {"--memory": memory, "--vcpus": vcpus, "--disk": disk, "--refresh": refresh or None}
    if kind != LIBVIRT and (given := [option for option, value in only_vms.items() if value is not None]):
        raise TopologyError(f"{', '.join(given)}: only virtual machines have that (--backend {LIBVIRT})")
    target, show = kubeconfig_file or kubeconfig.default_file(), Steps()
    if kind == LIBVIRT:
        asked = up_libvirt.Wish(
            name=name, workers=workers, control_planes=control_planes, separate=separate or None,
            memory_mib=memory, vcpus=vcpus, disk_gib=disk,
        )  # fmt: skip
        _told_up(up_libvirt.up(asked, target, show, refresh=refresh))
        return
    if kind == MACHINES:
        own = importlib.import_module("infra.install.machines")  # with Fabric, which takes a while to load
        wanted = own_machines(name, machine or [], control_planes or 1, separate)
        _told_up(own.up(wanted, target, show, ssh_key.read_bytes() if ssh_key else None))
        return
    known = lab.load(Layout(name))
    count = workers if workers is not None else known.workers if known else WORKERS
    wish = Topology(
        name=name,
        workers=count,
        control_planes=control_planes or 1,
        separate=separate or bool(known and known.separate),
    )
    _told_up(bring_up(wish, target, show))


def own_machines(name: str, given: list[str], control_planes: int, separate: bool) -> Topology:
    """Of the machines given; those that the lab has, where none are."""
    if not given:
        known = vm_lab.find(name)
        if known is None:
            raise TopologyError("--machine: []: must name one machine for each node ([user@]host[:port])")
        return known.topology
    return Topology(
        name=name, backend=MACHINES, control_planes=control_planes, workers=len(given) - control_planes,
        machines=tuple(Machine(ssh=one) for one in given), separate=separate,
    )  # fmt: skip


def _told_up(made: Up) -> None:
    name, nodes = made.topology.name, made.topology.nodes
    out.print(f"Lab [bold]{name}[/] is up after {made.seconds:.1f} s: {len(nodes)} nodes.")
    option = "" if name == DEFAULT_NAME else f" --name {name}"
    node = nodes[-1].name
    out.print(
        f"kubectl's context is [bold]{made.context}[/] (in {made.kubeconfig_file}). Try:\n"
        "  kubectl get nodes -o wide\n"
        "  kubectl create deployment web --image=nginx:1 --replicas=2\n"
        "  kubectl expose deployment web --port=80 && kubectl get pods,services\n"
        f"  ./sampan status{option}    ./sampan ssh{option} {node}    ./sampan down{option}"
    )


@app.command()
def down(
    name: Name = DEFAULT_NAME,
    ssh_key: Annotated[Path | None, typer.Option("--ssh-key", help="As `up` had it, for machines of yours.")] = None,
) -> None:
    """Take a lab away, whatever it is made of; nothing of it is left."""
    if registry.backend(name) == MACHINES:
        key = ssh_key.read_bytes() if ssh_key else None
        existed = importlib.import_module("infra.install.machines").down(name, Steps(), key)
    elif registry.backend(name) in (LIBVIRT, None) and not Layout(name).folder.joinpath("nodes").exists():
        existed = up_libvirt.down(name, Steps()) or (registry.backend(name) is None and lab.down(name))
    else:
        existed = lab.down(name)
    out.print(f"Lab {name} is gone." if existed else f"There is no lab {name}; nothing to do.")


@app.command("kubeconfig")
def print_kubeconfig(name: Name = DEFAULT_NAME) -> None:
    """Print the lab's kubeconfig."""
    nodes.existing(name)
    file = Layout(name).kubeconfig  # every backend has it there
    if not file.exists():
        raise NotRunning(f"lab {name} has no kubeconfig yet: its `./sampan up` did not finish; run it again")
    sys.stdout.write(file.read_text())


@app.command()
def status(name: Name = DEFAULT_NAME, output: Output = "table") -> None:
    """Nodes and components: what runs, where, since how many restarts."""
    seen = _observed(name)
    if output == "json":
        print(json.dumps(seen, indent=2))
        return
    out.print(f"Lab [bold]{name}[/]: API {seen['api']}")
    _table(("NODE", "ROLE", "STATE", "READY", "IPV4", "IPV6", "PID"), seen["nodes"], _node_row)
    _table(("COMPONENT", "NODE", "STATE", "PID", "RESTARTS", "LAST EXIT"), seen["components"], _component_row)


def _observed(name: str) -> dict[str, Any]:
    if (machines := nodes.vm(name)) is None:
        return observe(nodes.existing(name))
    return vm_lab.status(machines, machines.uri, api_nodes(Layout(name)))


def _node_row(node: dict[str, Any]) -> tuple[str, ...]:
    v4, v6 = node["addresses"]
    return node["name"], node["role"], node["state"], node["ready"], v4, v6, str(node["pid"] or "-")


def _component_row(entry: dict[str, Any]) -> tuple[str, ...]:
    pid = str(entry["pid"] or "-")
    return entry["name"], entry["node"], entry["state"], pid, str(entry["deaths"]), entry["lastExit"] or "-"


def _table(columns: tuple[str, ...], entries: list[dict[str, Any]], row: Any) -> None:
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for entry in entries:
        table.add_row(*map(escape, row(entry)))
    out.print(table)


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def ssh(
    node: str,
    command: Annotated[list[str] | None, typer.Argument(help="Default: a shell.")] = None,
    name: Name = DEFAULT_NAME,
    user: Annotated[str, typer.Option(help="root or sampan")] = "root",
) -> None:
    """A shell in a node, or one command. Options of ours come before NODE."""
    words = command[1:] if command and command[0] == "--" else command
    if machines := nodes.vm(name):
        at = machines.topology.node(node)
        vm_lab.run(vm_lab.ssh_line(machines, at, words or [], user=user, terminal=sys.stdin.isatty()))
    shell = Control(nodes.existing(name)).shell(node)
    line = shell.line(words or ["/bin/bash", "--login"], user=user)
    os.execvp(line[0], line)


@app.command("logs")
def show_logs(
    component: str,
    name: Name = DEFAULT_NAME,
    node: Annotated[str, typer.Option(help="Default: every node that has the component.")] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow")] = False,
    tail: Annotated[int, typer.Option(help="Last lines of each; -1 for all.")] = -1,
) -> None:
    """The log of a component; `supervisor` is a local lab's own, `cloud-controller` and `console` those of machines."""
    if machines := nodes.vm(name):
        vm_lab.run(vm_lab.logs_line(machines, component, node, tail, follow))
    layout = nodes.existing(name)
    logs.show(logs.find(layout, component, node), tail, follow)


@fault.command("kill-node")
def kill_node(node: str, name: Name = DEFAULT_NAME) -> None:
    """Power a node off hard; it stays off until `fault heal` or `up`."""
    if machines := nodes.machines(name):
        machines.power_off(node)
        return
    Control(nodes.existing(name)).ask("node", node=node, action="stop")


@fault.command("kill-component")
def kill_component(component: str, node: str = "control-plane-1", name: Name = DEFAULT_NAME) -> None:
    """SIGKILL a component; the supervisor starts it again."""
    nodes.of(name).component(node, component, "kill")


@fault.command("stop-component")
def stop_component(component: str, node: str = "control-plane-1", name: Name = DEFAULT_NAME) -> None:
    """Stop a component; it stays away until `fault heal` or `up`."""
    nodes.of(name).component(node, component, "stop")


@fault.command("heal")
def heal(name: Name = DEFAULT_NAME) -> None:
    """Power on what was powered off, start what was stopped."""
    if machines := nodes.machines(name):
        machines.heal()
        return
    control = Control(nodes.existing(name))
    seen = control.ask("status")
    for node, state in seen["nodes"].items():
        if not state["wanted"]:
            control.ask("node", node=node, action="start")
    for entry in seen["components"]:
        if not entry["wanted"]:
            control.component(entry["node"], entry["name"], "start")
    lab.wait_booted(control)


@image.command("build")
def build_images() -> None:
    """Build what nodes are made from: the root tree of namespace nodes, and a VM's disk, kernel and initrd."""
    built.build(progress.print)
    _built()


def _built(output: str = "table") -> None:
    if output == "json":
        print(json.dumps(built.listed(), indent=2))
    else:
        _table(("IMAGE", "SIZE", "PLACE"), built.listed(), lambda entry: tuple(entry.values()))


@image.command("list")
def list_images(
    name: Name = DEFAULT_NAME,
    output: Output = "table",
    made_from: Annotated[
        bool, typer.Option("--built", help="What nodes are made from, as this machine has it.")
    ] = False,
) -> None:
    """Which images the nodes have."""
    if made_from:
        _built(output)
        return
    found = container_images.listed(nodes.of(name))
    if output == "json":
        print(json.dumps(found, indent=2))
        return
    _table(
        ("IMAGE", "SIZE", "NODES"),
        found,
        lambda entry: (entry["name"], f"{entry['size'] / 1e6:.1f} MB", ", ".join(entry["nodes"])),
    )


@image.command("load")
def load_image(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="docker or OCI archive (docker save -o)")],
    name: Name = DEFAULT_NAME,
) -> None:
    """Load an archive onto every node that is on."""
    reached = nodes.of(name)
    running = reached.running_nodes()
    out.print(f"{', '.join(container_images.load(reached, file, running))}: on {', '.join(running)}")


@app.command("test", context_settings={"ignore_unknown_options": True})
def test(
    suites: Annotated[
        list[str] | None,
        typer.Argument(help="unit, contract, simulation, integration, e2e, all, --wide; pytest options"),
    ] = None,
) -> None:
    """Format, lint, types, layers, then the tests. `unit`: only the fast ones; `all`: the wide ones too."""
    sys.exit(checks.run(suites or []))


def main() -> None:
    try:
        app()
    except (RuntimeError, TopologyError, HostError, BuildError, NotRunning, LookupError, ValueError) as error:
        if os.environ.get("SAMPAN_TRACE"):
            raise
        progress.print(f"[red]error:[/] {escape(str(error))}")
        sys.exit(1)


if __name__ == "__main__":
    main()
