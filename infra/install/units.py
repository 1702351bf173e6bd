"""systemd's units of a node: one a process, from templates/systemd, in the order in which they are started.

A unit carries a hash of all that its process reads when it starts (SAMPAN_INPUTS in its environment), so that the
environment of the running process tells, after whatever interruption, whether it was started of what is wanted now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from infra.images.store import STORE
from infra.install.components import ETC, NODE_COMPONENTS, SERVER_COMPONENTS, Process
from infra.install.connection import File
from infra.install.machine import HOME, SERVER_USER_ID
from infra.install.templates import render
from infra.topology import Node

FOLDER = "/etc/systemd/system"
PODMAN = "sampan-podman.service"
IMAGES = "usr-share-sampan-images.mount"  # systemd.mount(5): the name is the path
# Below Podman's own unit, where the user may make groups and set limits (cgroup v2, Delegate=).
CGROUP_PARENT = f"/system.slice/{PODMAN}/kubepods"
ACCOUNTS = {"sampan": "sampan", f"{SERVER_USER_ID}:{SERVER_USER_ID}": "sampan-server", "root": "root"}
DESCRIPTIONS = {
    "server": "API server, scheduler and controllers",
    "node": "porter, proxy and DNS",
    "dns": "DNS",
}
# What each process reads at its start: beginnings of paths, below /etc/sampan where they are relative.
READS: dict[str, tuple[str, ...]] = {
    "podman": (f"{HOME}/.config/containers/",),
    "api-server": ("api-server.yaml", "pki/apiserver", "pki/front-proxy-", "pki/ca.", "pki/sa."),
    "scheduler": ("scheduler.",),
    "controller-manager": ("controller-manager.", "pki/ca.", "pki/sa."),
    "porter": ("porter.yaml", "proxy.kubeconfig"),
    "proxy": ("proxy.",),
    "dns": ("dns.yaml", "proxy.kubeconfig", "/etc/resolv.conf"),
    "kubelet": ("kubelet.", "pki/kubelet.", "pki/ca.crt"),
}
COMBINED = {"server": SERVER_COMPONENTS, "node": NODE_COMPONENTS}


@dataclass(frozen=True, kw_only=True)
class Unit:
    name: str
    content: bytes
    inputs: str  # empty: no process, nothing to compare

    @property
    def file(self) -> File:
        return File(path=f"{FOLDER}/{self.name}", content=self.content)


def units(lab: str, node: Node, processes: Sequence[Process], files: Sequence[File], release: str) -> tuple[Unit, ...]:
    """`release` names the code that our own processes run."""
    mount = render(
        "systemd/images.mount", lab=lab, user="sampan", store=STORE, user_id=node.user_id
    )  # fmt: skip
    found = [Unit(name=IMAGES, content=mount.encode(), inputs="")]
    for process in processes:
        is_ours = not process.arguments[0].startswith("/")
        text = _text(lab, node, process, "")
        inputs = _hash([text.encode(), release.encode() if is_ours else b"", *read_by(process.name, files)])
        content = _text(lab, node, process, inputs).encode()
        found.append(Unit(name=unit_name(process.name), content=content, inputs=inputs))
    return tuple(found)


def address(lab: str, node: Node, prefix: int) -> Unit:
    """For a machine without IPv6: an address of the lab's own, beside the IPv4 address by which others reach it."""
    text = render("systemd/address.service", lab=lab, node=node, prefix=prefix)
    return Unit(name=unit_name("address"), content=text.encode(), inputs="")


def unit_name(process: str) -> str:
    return f"sampan-{process}.service"


def reads(process: str, path: str) -> bool:
    beginnings = [start for part in COMBINED.get(process, (process,)) for start in READS[part]]
    return any(path.startswith(start if start.startswith("/") else f"{ETC}/{start}") for start in beginnings)


def read_by(process: str, files: Sequence[File]) -> list[bytes]:
    """Path and content of each file, in a fixed order."""
    return [
        part for file in sorted(files, key=lambda file: file.path) if reads(process, file.path)
        for part in (file.path.encode(), file.content)
    ]  # fmt: skip


def _text(lab: str, node: Node, process: Process, inputs: str) -> str:
    command = process.arguments if process.arguments[0].startswith("/") else ("/usr/bin/sampan", *process.arguments)
    return render(
        f"systemd/{process.name}.service",
        lab=lab,
        name=process.name,
        description=DESCRIPTIONS.get(process.name, process.name),
        command=" ".join(command),
        inputs=inputs,
        user=ACCOUNTS[process.user],
        home=HOME,
        runtime_dir=f"/run/user/{node.user_id}",
        **_order(node, process.name),
    )


def _order(node: Node, process: str) -> dict[str, tuple[str, ...]]:
    """Components wait for one another by themselves; the order spares them from trying in vain."""
    session = f"user-runtime-dir@{node.user_id}.service"
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    match process:
        case "podman":
            requires = (session, IMAGES)
            after = (session, f"user@{node.user_id}.service", IMAGES)
        case "kubelet":
            after = (PODMAN, unit_name("node"), unit_name("porter"), unit_name("server"), unit_name("api-server"))
        case "node" | "porter" | "proxy" | "dns" | "scheduler" | "controller-manager":
            after = (unit_name("server"), unit_name("api-server"))
    return {"requires": requires, "after": ("network.target", *after)}


def _hash(parts: Sequence[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(f"{len(part)}:".encode() + part)
    return total.hexdigest()[:32]
