"""A lab of virtual machines as its user sees it, and what it must not leave behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from infra.hypervisor import host
from infra.libvirt import project, registry
from infra.libvirt.arguments import bridge
from infra.topology import Topology
from tests.e2e.lab import ROOT, Lab, run

UP_TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Place:
    addresses: tuple[str, str]


class VmLab(Lab):
    def up(self, *options: str, check: bool = True) -> str:
        """What it said, on both streams."""
        command = [self.program, "up", "--name", self.name, "--kubeconfig", str(self.kubeconfig), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=UP_TIMEOUT_S, check=False)
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, said
        assert check or done.returncode != 0, said
        return said

    @cached_property
    def environment(self) -> dict[str, str]:
        """As in the shell that `sampan toolchain --shell` makes."""
        script = f'eval "$({self.program} toolchain --shell)"; exec env -0'
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        return dict(entry.split("=", 1) for entry in done.stdout.split("\0") if "=" in entry)

    @property
    def state(self) -> Path:
        return Path(self.environment["PULUMI_BACKEND_URL"].removeprefix("file://"))

    @property
    def registered(self) -> registry.Lab:
        found = registry.read(self.name)
        assert found is not None, f"there is no lab {self.name}"
        return found

    @property
    def topology(self) -> Topology:
        return self.registered.topology

    def admin_kubeconfig(self) -> str:
        return (registry.folder(self.name) / "admin.kubeconfig").read_text()

    def ssh_key(self) -> str:
        return (registry.folder(self.name) / "ssh").read_text()

    def pulumi(self, *arguments: str, environment: dict[str, str] | None = None, check: bool = True) -> str:
        """Plain pulumi in the lab's project."""
        command = ["pulumi", *arguments, "--stack", self.registered.stack, "--non-interactive"]
        done = subprocess.run(
            command, cwd=self.registered.folder, env=self.environment | (environment or {}), capture_output=True,
            text=True, timeout=UP_TIMEOUT_S, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, said
        return said

    def prepare(self) -> None:
        """The project and stack of a lab that was never up, to be used with plain pulumi."""
        place = project.of(self.name)
        project.write(place)
        run_in = {"cwd": place.folder, "env": self.environment}
        subprocess.run(["pulumi", "stack", "init", place.stack], check=True, capture_output=True, **run_in)

    def pulumi_at_project(self, *arguments: str, check: bool = True) -> str:
        place = project.of(self.name)
        command = ["pulumi", *arguments, "--stack", place.stack, "--non-interactive"]
        done = subprocess.run(
            command, cwd=place.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, said
        assert check or done.returncode != 0, said
        return said

    def sampan_said(self, *arguments: str, timeout_s: float) -> str:
        """Both streams."""
        done = subprocess.run(
            [self.program, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def kill_up_at(self, word: str, *options: str) -> None:
        """Kill `up` with all that it started, the engine too, when it says this."""
        command = [self.program, "up", "--name", self.name, "--kubeconfig", str(self.kubeconfig), *options]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
            assert running.stderr is not None
            said = ""
            for line in running.stderr:
                said += line
                if word in line:
                    os.killpg(running.pid, signal.SIGKILL)
                    return
        raise AssertionError(f"it never said {word!r}:\n{said}")

    def configure(self, key: str, value: str) -> None:
        self.pulumi("config", "set", "--path", f"sampan:{key}", value)

    def checkout_copy(self, place: Path) -> Path:
        """What a program is made of, to be changed by a test."""
        for name in (
            "infra",
            "orchestrator",
            "templates",
            "requirements.lock",
            "requirements-vm.lock",
            "pyproject.toml",
        ):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, place / name)
        return place

    def preview(self, checkout: Path) -> str:
        """As another version of Sampan would see this lab."""
        return self.pulumi("preview", "--diff", environment={"PYTHONPATH": str(checkout)})

    def virsh(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["virsh", "--quiet", *arguments], env=self.environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def memory_mib(self, node: str) -> int:
        said: str = self.json("get", "node", node)["status"]["capacity"]["memory"]
        return int(said.removesuffix("Ki")) // 1024

    def pods_are_ready(self, selector: str, count: int) -> bool:
        pods: list[dict[str, Any]] = self.json("get", "pods", "-l", selector)["items"]
        ready = [
            pod for pod in pods for condition in pod["status"].get("conditions", [])
            if condition["type"] == "Ready" and condition["status"] == "True"
        ]  # fmt: skip
        return len(ready) == count


def leftovers(lab: VmLab, topology: Topology) -> list[str]:
    """Whatever of a lab can still be found on this machine."""
    name = topology.name
    found = [str(path) for path in (registry.folder(name),) if path.exists()]
    for listing in (("list", "--all", "--name"), ("net-list", "--all", "--name"), ("pool-list", "--all", "--name")):
        found += [f"{listing[0]}: {one}" for one in lab.virsh(*listing).split() if one == name or f"{name}-" in one]
    found += [str(file) for file in (lab.state / ".pulumi").rglob("*") if _is_of(file.relative_to(lab.state), name)]
    found += [str(path) for path in (Path("/var/lib/sampan-libvirt/projects", name),) if path.exists()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"sampan-labs/{name}" in command or f"guest={name}-" in command or f"sampan-cloud-{name}" in command:
            found.append(f"{process.name}: {command}")
    heirs = [other.topology.index for other in registry.labs()]
    if topology.index not in heirs and (namespace := netns(lab)):
        links = run("ip", "netns", "exec", namespace, "ip", "-json", "link", "show")
        found += [link["ifname"] for link in json.loads(links) if link["ifname"] == bridge(topology)]
    return found


def _is_of(file: Path, lab: str) -> bool:
    """A state, its backup, a half-written copy of either, history: by the stack's name or the project's."""
    return any(part == lab or part.startswith(f"{lab}.") or part == f"sampan-{lab}" for part in file.parts)


def netns(lab: VmLab) -> str:
    """The network namespace of the libvirtd that Sampan started; "" where the machine's own answers."""
    seen = json.loads(lab.sampan("toolchain", "-o", "json"))["hypervisor"]
    return host.own().netns if "own libvirtd" in seen["origin"] else ""
