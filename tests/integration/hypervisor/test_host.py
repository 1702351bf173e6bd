"""The machine's own answers: the tiny guest, and a socket that another user may not open."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from infra.hypervisor import host, kvm, link
from infra.hypervisor.errors import HypervisorError
from infra.hypervisor.libvirtd import Libvirtd

NOBODY = 65534


def test_the_tiny_guest_says_42_where_nothing_is_in_its_way() -> None:
    assert kvm.why_not("tcg", "max") == ""


def test_what_qemu_says_is_the_reason() -> None:
    assert "no-such-model" in kvm.why_not("tcg", "no-such-model")


def test_another_user_is_told_about_permission(new_libvirtd: Callable[..., Libvirtd]) -> None:
    one = new_libvirtd()
    one.start()
    assert "Permission denied" in as_nobody(one.uri)
    assert "usermod -aG libvirt" in as_nobody(one.uri)


@pytest.mark.parametrize("named", [False, True], ids=["where-none-answers", "though-its-uri-is-set"])
def test_our_own_is_started(
    new_libvirtd: Callable[..., Libvirtd], monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    one = new_libvirtd()
    monkeypatch.setattr(host, "own", lambda *, hide_kvm=True: one)
    monkeypatch.setattr(host, "SYSTEM_URI", f"qemu:///system?socket={one.folder}/nobody-listens")
    said: list[str] = []
    environment = {"SAMPAN_DOMAIN_TYPE": "qemu"} | ({"LIBVIRT_DEFAULT_URI": one.uri} if named else {})
    found = host.ensure(said.append, environment)
    assert (found.uri, found.netns, found.domain_type) == (one.uri, one.netns, "qemu")
    assert len(said) == 1 and str(one.folder) in said[0]
    assert host.ensure(said.append, environment) == found
    assert len(said) == 1


def test_the_rules_of_the_way_out_are_valid_nft() -> None:
    rules = link.way_out(link.Link(3, "x", ("172.30.0.0/16", "fd00:172:30::/48")))
    done = subprocess.run(
        ["unshare", "--net", link.nft(), "-c", "-f", "-"], input=rules, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def as_nobody(uri: str) -> str:
    """What `ensure` tells a user without rights, in a process of that user."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        told = "it was let in"
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.chdir("/")
            host.ensure(print, {"LIBVIRT_DEFAULT_URI": uri})
        except HypervisorError as error:
            told = str(error)
        finally:
            os.write(theirs, told.encode())
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text
