"""Labs on machines that a user has: how they are named, which addresses they have, what they are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.images import cache
from infra.install import machines, packages, plan, ssh, units, vm
from infra.topology import Machine, Topology
from tests.unit.infra.install.test_plan import BARE, KEYS


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("host", ("root", "host", 22)),
        ("admin@192.0.2.1", ("admin", "192.0.2.1", 22)),
        ("host.example.org:2222", ("root", "host.example.org", 2222)),
        ("admin@[2001:db8::1]:2222", ("admin", "2001:db8::1", 2222)),
        ("[2001:db8::1]", ("root", "2001:db8::1", 22)),
    ],
)
def test_an_address_for_ssh(text: str, parsed: tuple[str, str, int]) -> None:
    assert machines.parse_address(text) == parsed


def test_another_user_becomes_root_and_is_never_asked() -> None:
    assert ssh.remote_line(["cat", "a b"], as_root=True) == "cat 'a b'"
    assert ssh.remote_line(["cat", "a b"], as_root=False) == "sudo --non-interactive -- cat 'a b'"


def link(*found: tuple[str, str, str]) -> dict[str, Any]:
    return {"addr_info": [{"family": family, "local": local, "scope": scope} for family, local, scope in found]}


LOOPBACK = link(("inet", "127.0.0.1", "host"), ("inet6", "::1", "host"))
FIRST = link(("inet", "192.0.2.1", "global"), ("inet6", "2001:db8::1", "global"), ("inet6", "fe80::1", "link"))
SECOND = link(("inet", "198.51.100.1", "global"), ("inet", "198.51.100.2", "global"))


@pytest.mark.parametrize(
    ("links", "host", "found"),
    [
        pytest.param([LOOPBACK, FIRST, SECOND], "name", ("192.0.2.1", "2001:db8::1"), id="the-first-with-an-address"),
        pytest.param([LOOPBACK, FIRST, SECOND], "198.51.100.2", ("198.51.100.2", ""), id="where-it-was-reached"),
        pytest.param([SECOND, FIRST], "2001:db8::1", ("192.0.2.1", "2001:db8::1"), id="reached-by-ipv6"),
        pytest.param([LOOPBACK, FIRST], "127.0.0.1", ("192.0.2.1", "2001:db8::1"), id="reached-by-a-forwarded-port"),
    ],
)
def test_a_machines_own_addresses(links: list[dict[str, Any]], host: str, found: tuple[str, str]) -> None:
    assert machines.addresses(links, host) == found


def test_a_machine_without_an_address_is_refused() -> None:
    with pytest.raises(LookupError, match="no IPv4 address"):
        machines.addresses([LOOPBACK], "127.0.0.1")


def lab(machine: Machine) -> Topology:
    return Topology(backend="machines", workers=0, machines=(machine,))


def test_a_machine_without_ipv6_gets_an_address_of_the_labs() -> None:
    wish = lab(Machine(ssh="a", address_v4="192.0.2.1"))
    (unit, *_) = vm.wanted(wish, wish.control_plane, KEYS_OF_ONE, None).units
    assert unit.name == "sampan-address.service"
    assert b"address replace fd00:172:31::a/64" in unit.content
    has = lab(Machine(ssh="a", address_v4="192.0.2.1", address_v6="2001:db8::1"))
    assert vm.wanted(has, has.control_plane, KEYS_OF_ONE, None).units[0].name == units.IMAGES


KEYS_OF_ONE = KEYS  # of a lab whose control plane has the same name


def test_a_users_machine_keeps_its_names_and_name_servers() -> None:
    wish = lab(Machine(ssh="a", address_v4="192.0.2.1"))
    paths = {file.path for file in vm.wanted(wish, wish.control_plane, KEYS_OF_ONE, None).files}
    assert not paths & {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/containers/storage.conf"}


def test_what_a_machine_lacks_is_brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tree = tmp_path / "node-0123/tree"
    for part in packages.PARTS:
        (tree / part.lstrip("/")).mkdir(parents=True)
        (tree / part.lstrip("/") / "file").write_text("there")
    version = packages.version(tree)
    bare = packages.steps(replace(BARE, lacking=("podman",)), {}, version, tree)
    assert [step.title.split(" (")[0] for step in bare] == ["Debian packages", *packages.PARTS]
    assert b" podman " in bare[0].stdin
    assert b"nginx" not in bare[0].stdin
    assert packages.steps(BARE, dict.fromkeys(packages.PARTS, version), version, tree) == []
    older = packages.steps(BARE, {packages.LIBRARY: "node-before", packages.STORE: version}, version, tree)
    assert [step.title.split(" (")[0] for step in older] == [packages.LIBRARY]
    assert cache.folder().is_relative_to(tmp_path)


def test_another_python_is_refused_with_the_remedy() -> None:
    older = replace(BARE, python="cpython-311", system="debian 12")
    assert "it is debian 12" in packages.refuse(older)
    assert "install Debian 13" in packages.refuse(older)
    assert packages.refuse(BARE) == ""


def test_what_is_laid_down_is_removed() -> None:
    wish = lab(Machine(ssh="a", address_v4="192.0.2.1"))
    script = plan.removal(wish.control_plane).stdin.decode()
    removed = [word.strip("\\") for line in script.splitlines() for word in line.split() if word.startswith("/")]
    for file in vm.wanted(wish, wish.control_plane, KEYS_OF_ONE, None).files:
        assert any(file.path == path or file.path.startswith(f"{path}/") for path in removed), file.path


@pytest.mark.parametrize("index", [0, 7])
def test_what_is_known_of_a_lab_is_kept(index: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.local.layout.LABS", tmp_path)
    known = machines.Known(
        topology=replace(lab(Machine(ssh="a", address_v4="192.0.2.1")), name="mine", index=index),
        host_keys={"a": "ssh-ed25519 AAAA"},
    )
    machines.save(known)
    assert machines.load("mine") == known
    assert machines.load("other") is None
