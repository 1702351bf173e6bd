"""What every node has before any component: the user `sampan` with its ids, Podman's configuration, folders.

Pure: `observe` says which command tells the facts, `plan` compares them with the wish and returns what to do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.images.store import STORE
from infra.install.connection import File
from infra.install.templates import render
from infra.topology import NODE_IDS, Node, Topology

HOME = "/var/lib/sampan/home"  # of the user `sampan`
# `sampan-server`: API server, scheduler and controllers of a control-plane node. Not below 1000: distributions give
# those numbers to whatever is installed, and systemd-sysusers takes another where one is taken, without a word.
SERVER_USER_ID = 59990


@dataclass(frozen=True, kw_only=True)
class Folder:
    path: str
    user_id: int = 0
    group_id: int = 0
    mode: int = 0o755


@dataclass(frozen=True)
class Plan:
    """What differs from the wish: files to lay down, then one script to run (empty: nothing)."""

    files: tuple[File, ...]
    script: str

    @property
    def is_empty(self) -> bool:
        return not self.files and not self.script


def folders(node: Node) -> list[Folder]:
    user = node.user_id
    return [
        Folder(path="/etc/sampan"),
        Folder(path="/etc/sampan/pki"),
        Folder(path="/etc/cni/net.d"),
        Folder(path="/run/sampan", group_id=user, mode=0o750),
        Folder(path="/var/lib/sampan"),
        Folder(path="/var/lib/sampan/home", user_id=user, group_id=user),
        Folder(path="/var/lib/sampan/home/.config", user_id=user, group_id=user),
        Folder(path="/var/lib/sampan/home/.config/containers", user_id=user, group_id=user),
        Folder(path="/var/lib/sampan/kubelet", user_id=user, group_id=user),
        Folder(path="/var/lib/sampan/kubelet/pods", user_id=user, group_id=user),
        Folder(path="/var/lib/sampan/store", user_id=SERVER_USER_ID, group_id=SERVER_USER_ID, mode=0o700),
        Folder(path="/var/lib/containers/sampan", user_id=user, group_id=user),
        Folder(path="/var/lib/containers/sampan/tmp", user_id=user, group_id=user),
        Folder(path="/var/log/sampan"),
        Folder(path="/var/log/pods", user_id=user, group_id=user),
        Folder(path="/var/log/containers", user_id=user, group_id=user),
    ]


def files(topology: Topology, node: Node, resolv_conf: str) -> list[File]:
    """`resolv_conf` is the lab host's: nodes ask the servers that it asks, where those can be reached from a node."""
    user = node.user_id
    containers = containers_texts()
    texts = {
        # Rootless Podman reads the options of its user's storage.conf alone.
        f"{HOME}/.config/containers/storage.conf": containers.pop("storage.conf"),
        **{f"/etc/containers/{name}": text for name, text in containers.items()},
        "/etc/hosts": render("node/hosts", nodes=topology.nodes),
        "/etc/resolv.conf": reachable_servers(resolv_conf),
        "/etc/hostname": f"{node.name}\n",
        "/etc/subuid": f"sampan:{user + 1}:{NODE_IDS - 1}\n",
        "/etc/subgid": f"sampan:{user + 1}:{NODE_IDS - 1}\n",
    }
    return [File(path=path, content=text.encode()) for path, text in texts.items()]


def containers_texts() -> dict[str, str]:
    """Podman's configuration, by file name."""
    return {
        "containers.conf": render("node/containers.conf"),
        "storage.conf": render("node/storage.conf", image_store=STORE),
        "registries.conf": render("node/registries.conf"),
        "policy.json": render("node/policy.json"),
    }


def reachable_servers(resolv_conf: str) -> str:
    """resolv.conf(5) without servers on a loopback address, which only the host itself can ask."""

    def stays(line: str) -> bool:
        words = line.split()
        return words[:1] != ["nameserver"] or not (words[1].startswith("127.") or words[1] == "::1")

    return "".join(f"{line}\n" for line in resolv_conf.splitlines() if line.strip() and stays(line))


def digest(file: File) -> str:
    return hashlib.sha256(file.content).hexdigest()


def observe(paths: Sequence[str]) -> list[str]:
    """The command whose output `parse` reads: sha256 and path of each wanted file that is there, then the accounts."""
    return ["sh", "-c", 'sha256sum -- "$@" 2>/dev/null; echo; cat /etc/passwd', "observe", *paths]


def parse(output: str) -> tuple[dict[str, str], dict[str, int]]:
    """Digests by path, and user ids by name."""
    sums, _, accounts = output.partition("\n\n") if not output.startswith("\n") else ("", "", output[1:])
    digests = {line[66:]: line[:64] for line in sums.splitlines()}
    users = {fields[0]: int(fields[2]) for line in accounts.splitlines() if len(fields := line.split(":")) > 3}
    return digests, users


def plan(
    wanted: Sequence[File], wanted_folders: Sequence[Folder], node: Node, digests: Mapping[str, str],
    users: Mapping[str, int],
) -> Plan:  # fmt: skip
    lines = []
    for name, user_id, home in (
        ("sampan", node.user_id, "/var/lib/sampan/home"),
        ("sampan-server", SERVER_USER_ID, "/var/lib/sampan"),
    ):
        if users.get(name) != user_id:
            lines += [
                f"sed -i '/^{name}:/d' /etc/passwd /etc/group",
                f"echo '{name}:x:{user_id}:{user_id}::{home}:/bin/bash' >> /etc/passwd",
                f"echo '{name}:x:{user_id}:' >> /etc/group",
            ]
    for folder in wanted_folders:
        owner = f"-o {folder.user_id} -g {folder.group_id} -m {folder.mode:o}"
        wish = f"{folder.user_id} {folder.group_id} {folder.mode:o}"
        lines.append(
            f'[ "$(stat -c "%u %g %a" {folder.path} 2>/dev/null)" = "{wish}" ] || install -d {owner} {folder.path}'
        )
    changed = tuple(file for file in wanted if digests.get(file.path) != digest(file))
    return Plan(changed, "\n".join(["set -e", *lines]))
