"""From what is wanted and what was seen to the steps that are missing. Pure; the order is that of a first install.

A step is one command with what it is given on its standard input. Every step may be repeated, and one that was broken
off is wanted again the next time, because the facts say so.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from infra.install import release
from infra.install.connection import File, tar_of
from infra.install.facts import REMOTE, Facts
from infra.install.machine import SERVER_USER_ID, Folder
from infra.install.release import Release
from infra.install.units import Unit
from infra.topology import NODE_IDS, Node

SHELL = ("sh", "-s")
UNTAR = ("tar", "--extract", "--numeric-owner", "--same-owner", "--file=-", "-C", "/")
# Users whose ids are not the wanted ones are removed first: systemd-sysusers leaves those that exist alone.
ACCOUNTS = """\
set -e
{remove}
systemd-sysusers - <<'END'
u sampan {user} "Sampan's containers" /var/lib/sampan/home /bin/bash
u sampan-server {server} "Sampan's API server" /var/lib/sampan
END
for file in /etc/subuid /etc/subgid; do
    touch "$file"
    sed -i '/^sampan:/d' "$file"
    echo sampan:{first}:{count} >> "$file"
done
loginctl enable-linger sampan
"""
# systemctl says that a unit failed; why is in its journal.
RESTART = """\
restart() {
    systemctl restart "$@" && return
    for unit; do
        systemctl is-active --quiet "$unit" || journalctl --unit "$unit" --lines 12 --output cat --no-pager >&2
    done
    exit 1
}"""
KERNEL = "systemctl restart systemd-modules-load.service systemd-sysctl.service"


@dataclass(frozen=True, kw_only=True)
class Step:
    """`title` continues "node worker-1: …"."""

    title: str
    command: tuple[str, ...]
    stdin: bytes = b""


def ranges_line(node: Node) -> str:
    return f"sampan:{node.user_id + 1}:{NODE_IDS - 1}"


def users_of(node: Node) -> dict[str, int]:
    return {"sampan": node.user_id, "sampan-server": SERVER_USER_ID}


def taken(node: Node, facts: Facts) -> str:
    """Whose number of a user is not to be had; "" where all are."""
    for name, number in users_of(node).items():
        others = [other for other, known in facts.users.items() if known == number and other != name]
        if others:
            return f"user id {number}, which {name} needs, is that of {others[0]}: give {others[0]} another"
    return ""


def accounts(node: Node, facts: Facts) -> list[Step]:
    users = users_of(node)
    has_users = all(facts.users.get(name) == number for name, number in users.items())
    has_ranges = all(ranges_line(node) in text.splitlines() for text in facts.ranges)
    if has_users and has_ranges and facts.lingers:
        return []
    wrong = [name for name, number in users.items() if facts.users.get(name, number) != number]
    remove = "\n".join(f"sed -i '/^{name}:/d' /etc/passwd /etc/group /etc/shadow /etc/gshadow" for name in wrong)
    script = ACCOUNTS.format(
        user=node.user_id, server=SERVER_USER_ID, first=node.user_id + 1, count=NODE_IDS - 1, remove=remove
    )
    return [Step(title="user sampan, its ids and its session", command=SHELL, stdin=script.encode())]


def folders(wanted: Sequence[Folder], facts: Facts) -> list[Step]:
    lines = []
    for folder in wanted:
        known, path = facts.folders.get(folder.path), shlex.quote(folder.path)
        if known == (folder.user_id, folder.group_id, folder.mode):
            continue
        lines.append(f"install -d -o {folder.user_id} -g {folder.group_id} -m {folder.mode:o} {path}")
        if known is not None and known[0] != folder.user_id == SERVER_USER_ID:  # what it wrote under another number
            lines.append(f"chown -R {folder.user_id}:{folder.group_id} {path}")
    if not lines:
        return []
    return [Step(title="folders", command=SHELL, stdin="\n".join(["set -e", *lines]).encode())]


def files(wanted: Sequence[File], facts: Facts) -> list[Step]:
    changed = [file for file in wanted if not facts.has(file)]
    if not changed:
        return []
    names = ", ".join(file.path.rpartition("/")[2] for file in changed)
    told = names if len(changed) <= 4 else f"{len(changed)} files"
    return [Step(title=f"configuration ({told})", command=UNTAR, stdin=tar_of(changed))]


def kernel(settings: dict[str, str], facts: Facts) -> list[Step]:
    """The settings' files are laid down before. A setting that this kernel does not know is none of ours."""
    if all(facts.settings.get(name) in (value, "") for name, value in settings.items()):
        return []
    return [Step(title="kernel modules and settings", command=SHELL, stdin=KERNEL.encode())]


def unpack(wanted: Release, facts: Facts, archive: bytes) -> Step:
    script = release.unpack_script(wanted, facts.python)
    return Step(title=f"code ({len(archive) / 1e6:.1f} MB)", command=("sh", "-c", script), stdin=archive)


def switch(wanted: Release, facts: Facts) -> list[Step]:
    if facts.release == f"releases/{wanted.name}":
        return []
    script = release.switch_script(wanted, facts.release, facts.releases)
    return [Step(title=f"release {wanted.name}", command=SHELL, stdin=script.encode())]


def units(wanted: Sequence[Unit], facts: Facts) -> list[Step]:
    """Laid down before. Only those are started again whose process was started of something else."""
    names = {unit.name for unit in wanted}
    gone = [name for name in facts.our_units if name not in names]
    changed = [unit.name for unit in wanted if not facts.has(unit.file)]
    disabled = [unit.name for unit in wanted if unit.name not in facts.units or not facts.units[unit.name].is_enabled]
    stale = [unit.name for unit in wanted if _is_stale(unit, facts)]
    lines = ["set -e"]
    if gone:
        lines += [
            f"systemctl disable --now {' '.join(gone)}",
            f"rm -f {' '.join(f'/etc/systemd/system/{name}' for name in gone)}",
        ]
    if disabled:
        lines.append(f"systemctl enable --quiet --no-reload {' '.join(disabled)}")
    if gone or changed or disabled or stale:
        lines.append("systemctl daemon-reload")
    if stale:
        lines += [RESTART, f"restart {' '.join(stale)}"]
    if len(lines) == 1:
        return []
    told = [name.removeprefix("sampan-").removesuffix(".service") for name in stale if name.endswith(".service")]
    title = f"starting {', '.join(told)}" if told else "units"
    return [Step(title=title, command=SHELL, stdin="\n".join(lines).encode())]


def _is_stale(unit: Unit, facts: Facts) -> bool:
    seen = facts.units.get(unit.name)
    if seen is None or not seen.is_active:
        return True
    return seen.inputs != unit.inputs if unit.inputs else not facts.has(unit.file)


def removal(node: Node) -> Step:
    """On a machine that stays: everything that was laid down, made or started, but for Debian packages."""
    script = (REMOTE / "remove.sh").read_bytes()
    return Step(title="removing Sampan and its containers", command=(*SHELL, "--", str(node.user_id)), stdin=script)
