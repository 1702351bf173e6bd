"""The hypervisor that labs of this machine use, present and answering afterwards.

In this order: the one that LIBVIRT_DEFAULT_URI names; a system libvirtd that answers; else one of ours, started and
supervised (libvirtd.py), for which this must run as root. Packages that are missing are installed, and said.
Errors: HypervisorError with cause and remedy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra import host
from infra.hypervisor import kvm, packages
from infra.hypervisor.errors import HypervisorError
from infra.hypervisor.kvm import DomainType, domain_type
from infra.hypervisor.libvirtd import DEFAULT_FOLDER, NODE_NETWORKS, Libvirtd

__all__ = ["Hypervisor", "HypervisorError", "ensure", "own"]

SYSTEM_URI = "qemu:///system"
VARIABLE = "LIBVIRT_DEFAULT_URI"
ANSWER_TIMEOUT_S = 60.0  # the first connection of a libvirtd asks QEMU what it can do
Say = Callable[[str], None]


@dataclass(frozen=True)
class Hypervisor:
    uri: str
    netns: str | None  # name of the network namespace in which its networks are; None: the host's own
    domain_type: DomainType
    origin: str  # words for the user


def own(*, hide_kvm: bool = True) -> Libvirtd:
    """The one libvirtd of ours that labs share."""
    return Libvirtd(DEFAULT_FOLDER, NODE_NETWORKS, hide_kvm=hide_kvm)


def ensure(say: Say, environment: Mapping[str, str] = os.environ) -> Hypervisor:
    chosen = environment.get(VARIABLE, "")
    if chosen and chosen != own().uri:
        install_missing(say)
        if refusal := connect(chosen):
            raise HypervisorError(
                f"{VARIABLE} is {chosen}, and no libvirtd answers there: {refusal}", _remedy(chosen, refusal)
            )
        return Hypervisor(chosen, None, type_at(chosen, say, environment), f"{VARIABLE} of the environment")
    if not chosen and (found := _system(say, environment)):
        return found
    installed = install_missing(say)
    if installed and not chosen and (found := _system(say, environment)):
        return found  # the package has started it
    if os.geteuid() != 0:
        raise HypervisorError(
            f"no libvirtd answers at {SYSTEM_URI} for this user: {connect(SYSTEM_URI)}",
            "Start one that you may use (`sudo systemctl start libvirtd`, membership of the group libvirt), "
            "or run as root (sudo ./sampan …): Sampan then starts one of its own.",
        )
    kind = domain_type(environment=environment, say=say)
    libvirtd = own(hide_kvm=kind == "qemu")
    if not libvirtd.is_running():
        say(f"no libvirtd answers on this machine: starting one of our own in {libvirtd.folder}")
    libvirtd.start()
    if refusal := connect(libvirtd.uri):
        raise HypervisorError(f"our own libvirtd refuses: {refusal}", f"{libvirtd.log} tells why.")
    return Hypervisor(libvirtd.uri, libvirtd.netns, kind, f"Sampan's own libvirtd in {libvirtd.folder}")


def install_missing(say: Say) -> list[str]:
    """What was installed."""
    missing = packages.lacking(_is_there)
    if missing and os.geteuid() != 0:
        raise HypervisorError(
            f"this machine lacks {', '.join(missing)}",
            f"Run as root (sudo ./sampan …), which installs them, or: sudo apt-get install {' '.join(missing)}",
        )
    if missing and shutil.which("apt-get") is None:
        raise HypervisorError(
            f"this machine lacks what the Debian packages {', '.join(missing)} bring, and has no apt-get",
            "Install its own distribution's packages of libvirt, QEMU and dnsmasq, then again.",
        )
    if missing:
        say(f"installing {', '.join(missing)} (apt-get)")
        host.apt_install(missing)
    return missing


def connect(uri: str) -> str:
    """Empty where a libvirtd answers there; else libvirt's words. Asks no question: SSH fails instead."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["virsh", "--quiet", "--connect", quiet(uri), "uri"],
            capture_output=True, text=True, timeout=ANSWER_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL,
            env=environment,
        )  # fmt: skip
    except FileNotFoundError:
        return "libvirt's clients are not installed"
    except subprocess.TimeoutExpired:
        return f"no answer in {ANSWER_TIMEOUT_S:.0f} s"
    if done.returncode == 0:
        return ""
    words = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
    return "; ".join(word for word in words if word != "failed to connect to the hypervisor") or "it failed silently"


def quiet(uri: str) -> str:
    """A URI over SSH that asks no password on the terminal (libvirt's own parameter)."""
    if "+ssh" not in uri.partition(":")[0] or "no_tty=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}no_tty=1"


def _system(say: Say, environment: Mapping[str, str]) -> Hypervisor | None:
    if connect(SYSTEM_URI):
        return None
    return Hypervisor(SYSTEM_URI, None, domain_type(environment=environment, say=say), "this machine's libvirtd")


def type_at(uri: str, say: Say, environment: Mapping[str, str] = os.environ) -> DomainType:
    """Of domains at a hypervisor. This machine is asked by trying; of another one libvirt's word must do."""
    if "+" not in uri.partition(":")[0] or environment.get(kvm.VARIABLE):
        return domain_type(environment=environment, say=say)
    done = subprocess.run(
        ["virsh", "--connect", quiet(uri), "capabilities"], capture_output=True, text=True, check=False
    )
    return "kvm" if "<domain type='kvm'" in done.stdout else "qemu"


def _is_there(sign: str) -> bool:
    if sign.startswith("/"):
        return Path(sign).exists()
    return shutil.which(sign, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def _remedy(uri: str, refusal: str) -> str:
    if "ermission denied" in refusal or "authentication" in refusal:
        return "Join the group that may use it (sudo usermod -aG libvirt $USER, then log in again), or run as root."
    return f"Start libvirtd there, or correct the URI; `unset {VARIABLE}` lets Sampan choose (now {uri})."
