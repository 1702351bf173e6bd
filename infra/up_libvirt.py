"""A lab of virtual machines, up and down: tools, image, stack, and what a user needs to reach it.

Pulumi's SDK may only just have been installed, so what imports it (infra/libvirt/stack.py) is loaded here, and late.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.markup import escape

from infra import host, kubeconfig, readiness, vm_lab
from infra.images.wheel import wheel
from infra.libvirt import image, project, registry
from infra.libvirt.project import Project
from infra.progress import Steps, console
from infra.toolchain import checkpoint, environment, stack_files, stack_lock
from infra.toolchain.whole import Toolchain
from infra.toolchain.whole import ensure as ensure_tools
from infra.up import Up

DNS_TIMEOUT_S = 120.0  # where there is no KVM, a node's proxy and DNS take a while to come
USERS = "kubeconfigs"  # file of the lab's folder: which kubeconfigs of users have its context, one a line


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What was asked for on the command line; None: as the stack has it."""

    name: str
    workers: int | None = None
    control_planes: int | None = None
    separate: bool | None = None
    memory_mib: int | None = None
    vcpus: int | None = None
    disk_gib: int | None = None

    def settings(self) -> dict[str, str]:
        """By the names that `pulumi config set sampan:NAME` takes."""
        found: dict[str, str] = {}
        for key, value in (("workers", self.workers), ("controlPlanes", self.control_planes)):
            if value is not None:
                found[key] = str(value)
        if self.separate is not None:
            found["separate"] = str(self.separate).lower()
        sizes = {"memoryMib": self.memory_mib, "vcpus": self.vcpus, "diskGib": self.disk_gib}
        for key, value in sizes.items():
            if value is not None:
                found |= {f"{role}.{key}": str(value) for role in ("controlPlane", "worker")}
        return found


def up(wish: Wish, kubeconfig_file: Path, show: Steps, *, refresh: bool = False) -> Up:
    known = registry.backend(wish.name)
    if known not in (None, "libvirt"):
        raise RuntimeError(f"name: {wish.name!r}: is that of a {known} lab of this machine: choose another (--name)")
    with show.step("tools"):
        tools = ready(show)
    with show.step("machine image"):
        image.of_lab(wish.name, show.note)
        wheel()
    place = project.of(wish.name)
    with stack_of(tools, place, show) as (module, stack):
        module.configure(stack, place, wish.settings())
        with show.step(f"stack {place.stack} of {place.name}"):
            reader = module.up(stack, teller(show), refresh=refresh)
    lab = registry.read(wish.name)
    assert lab is not None, "the stack's first resource writes lab.json"
    config = add_context(lab.name, kubeconfig_file)
    if reader.changes:  # else it answered when they were made
        vm_lab.ensure_ssh()
        machines, last = vm_lab.Machines(lab, lab.uri), lab.topology.nodes[-1].name
        with show.step("cluster DNS answers"):
            readiness.wait_dns(lambda command: machines.run(last, command), lab.topology, DNS_TIMEOUT_S)
    return Up(lab.topology, kubeconfig_file, config["current-context"], show.total_s)


def down(name: str, show: Steps) -> bool:
    """False where there was nothing of that name. What Pulumi's state knows is destroyed by Pulumi; whatever else of
    the lab is there, all of it where the state is gone, is found by the lab's own marks and names."""
    place, known = project.of(name), registry.read(name)
    if known is None and not environment.FOLDER.exists():
        return False  # no lab of virtual machines was ever on this machine
    tools = ready(show)
    module, remains = pulumi_stack(), importlib.import_module("infra.libvirt.sweep")
    url = tools.environment["PULUMI_BACKEND_URL"]
    existed = module.exists(url, place) or known is not None or (place.is_ours and place.folder.exists())
    forget_contexts(name)
    if module.exists(url, place):
        with stack_of(tools, place, show) as (module, stack):
            module.destroy(stack, teller(show))
    uris = hypervisors(known) or [tools.hypervisor.uri]
    found = remains.end_controller(name, uris[0], tools.hypervisor.netns or "", known and known.topology)
    for uri in uris:
        found += remains.sweep(uri, name, place.name, place.stack)
    if registry.release(name, place.name, place.stack):
        found.append(f"folder {registry.folder(name)}")
    found += [f"Pulumi's {path}" for path in stack_files.forget(url, place.name, place.stack)]
    for what in found:
        show.note(f"{what} removed, of which Pulumi's state knew nothing")
    project.remove(place)
    return existed or bool(found)


def forget_contexts(lab: str) -> None:
    """The lab's context goes from each kubeconfig that it was added to."""
    kubeconfig.withdraw(lab, registry.folder(lab) / USERS)


def hypervisors(lab: registry.Lab | None) -> list[str]:
    """The libvirt URIs that a lab is on, that of most nodes first."""
    if lab is None:
        return []
    named = dict.fromkeys((lab.uri, *(node.hypervisor or lab.uri for node in lab.topology.nodes)))
    return [uri for uri in named if uri]


def ready(show: Steps) -> Toolchain:
    """Tools present, and this process's environment as Pulumi's processes need it."""
    tools = ensure_tools(show.note)
    os.environ.update(tools.environment)
    if shutil.which("kubectl") is None and not host.KUBECTL.exists():
        show.note(f"installing kubectl to {host.KUBECTL}")
        host.install_kubectl()
    return tools


def pulumi_stack() -> Any:
    importlib.invalidate_caches()
    return importlib.import_module("infra.libvirt.stack")


@contextmanager
def stack_of(tools: Toolchain, place: Project, show: Steps) -> Iterator[tuple[Any, Any]]:
    """The module and the stack. A lock that a killed command left is removed, one that is held is respected."""
    module = pulumi_stack()
    stale = stack_lock.release_stale(tools.environment["PULUMI_BACKEND_URL"], place.name, place.stack)
    if checkpoint.recover(tools.environment["PULUMI_BACKEND_URL"], place.name, place.stack):
        show.note("an earlier command was killed while it wrote the stack's state: going on from the state before")
    stack = module.open_stack(place, tools.pulumi)
    for lock in stale:
        show.note(f"an earlier command was killed (process {lock.pid}): going on where it was")
        module.forget_pending(stack)
    yield module, stack


def teller(show: Steps) -> Callable[[Any], None]:
    logged = ""

    def tell(line: Any) -> None:
        nonlocal logged
        if line.kind in ("status", "progress"):
            show.status(line.text)
            # In a log no line passes: there it stays, but once, whatever it counts.
            same = re.sub(r"\d+", "0", line.text)
            if line.kind == "progress" and not console.is_terminal and same != logged:
                logged = same
                show.note(line.text)
        elif line.kind == "error":
            console.print(f"   [red]✗[/] {escape(line.text)}")
        else:
            show.note(line.text)

    return tell


def add_context(lab: str, user_file: Path) -> dict[str, Any]:
    """The lab's context in the user's kubeconfig, and a note of where it went."""
    folder = registry.folder(lab)
    config: dict[str, Any] = yaml.safe_load((folder / registry.KUBECONFIG).read_text())
    kubeconfig.share(config, user_file, folder / USERS)
    return config
