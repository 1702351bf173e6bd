"""The cable's commands and rules, and forwarding that several hold."""

from __future__ import annotations

import itertools
import os
from ipaddress import ip_network
from pathlib import Path

import pytest

from infra import forwarding
from infra.hypervisor import link
from infra.hypervisor.errors import HypervisorError
from infra.hypervisor.link import Link

NETWORKS = ("172.30.0.0/16", "fd00:172:30::/48")
CABLE = Link(3, "sampan-vm", NETWORKS)
ALL = [Link(number, "x", NETWORKS) for number in range(256)]


def test_the_host_routes_the_guests_networks_into_the_namespace() -> None:
    assert link.outer_commands(CABLE) == (
        "link add name smpvm3 mtu 1500 type veth peer name uplink netns sampan-vm\n"
        "address add 169.254.172.13/30 dev smpvm3\n"
        "address add fd00:172:31:3::1/64 dev smpvm3 nodad\n"
        "link set smpvm3 up\n"
        "route add 172.30.0.0/16 via 169.254.172.14 dev smpvm3\n"
        "route add fd00:172:30::/48 via fd00:172:31:3::2 dev smpvm3\n"
    )


def test_the_namespaces_way_out_is_the_host() -> None:
    commands = link.inner_commands(CABLE)
    assert "route add default via 169.254.172.13 dev uplink\n" in commands
    assert "route add ::/0 via fd00:172:31:3::1 dev uplink\n" in commands


def test_no_two_cables_share_a_name_or_an_address() -> None:
    assert len({one.outer for one in ALL}) == len({one.subnets for one in ALL}) == 256
    v4 = sorted(ip_network(one.subnets[0]) for one in ALL)
    assert all(not before.overlaps(after) for before, after in itertools.pairwise(v4))


def test_names_of_links_fit_the_kernel() -> None:
    assert max(len(one.outer) for one in ALL) <= 15


def test_what_leaves_is_masqueraded_for_both_families() -> None:
    rules = link.way_out(CABLE)
    assert 'ip saddr { 169.254.172.12/30, 172.30.0.0/16 } oifname != "smpvm3" masquerade' in rules
    assert 'ip6 saddr { fd00:172:31:3::/64, fd00:172:30::/48 } oifname != "smpvm3" masquerade' in rules


def test_a_cable_without_networks_still_has_a_way_out() -> None:
    rules = link.way_out(Link(0, "x", ()))
    assert "ip saddr { 169.254.172.0/30 }" in rules


@pytest.mark.parametrize(
    ("taken", "number"),
    [
        pytest.param([], 0, id="the-first"),
        pytest.param(["smpvm0", "smpvm2", "eth0"], 1, id="a-gap"),
    ],
)
def test_free_number(taken: list[str], number: int) -> None:
    assert link.free_number(frozenset(taken)) == number


def test_no_free_number_is_an_error_with_a_remedy() -> None:
    with pytest.raises(HypervisorError, match="Take one of them away"):
        link.free_number(frozenset(one.outer for one in ALL))


@pytest.mark.parametrize(
    ("routes", "has"),
    [
        pytest.param("Iface Destination Gateway\neth0 00000000 010200C0\n", True, id="default"),
        pytest.param("Iface Destination Gateway\neth0 000200C0 00000000\n", False, id="only-its-own-network"),
        pytest.param("Iface Destination Gateway\n", False, id="no-network"),
    ],
)
def test_has_default_route(routes: str, has: bool) -> None:
    assert link.has_default_route(routes) is has


def test_a_link_is_read_back_as_written(tmp_path: Path) -> None:
    assert link.load(tmp_path / "link.json") is None
    link.store(tmp_path / "link.json", CABLE)
    assert link.load(tmp_path / "link.json") == CABLE


@pytest.mark.parametrize("before", ["0\n", "1\n"])
def test_forwarding_is_restored_when_its_last_holder_goes(tmp_path: Path, before: str) -> None:
    setting = tmp_path / "ip_forward"
    setting.write_text(before)
    for holder in ("lab", "vm", "vm"):
        forwarding.hold(holder, root=tmp_path, setting=setting)
    assert setting.read_text() == "1\n"
    forwarding.release("lab", root=tmp_path, setting=setting)
    forwarding.release("never", root=tmp_path, setting=setting)
    assert setting.read_text() == "1\n"
    forwarding.release("vm", root=tmp_path, setting=setting)
    assert setting.read_text() == before
    forwarding.hold("lab", root=tmp_path, setting=setting)
    forwarding.release("lab", root=tmp_path, setting=setting)
    assert setting.read_text() == before


def test_the_node_images_nft_goes_before_the_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's may be too old for tables that the image's has made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert link.nft() == "nft"
    for number, name in enumerate(("node-b", "node-a")):
        program = tmp_path / "sampan" / name / "bin/nft"
        program.parent.mkdir(parents=True)
        program.touch()
        os.utime(program, (number, number))
    assert link.nft() == str(tmp_path / "sampan/node-a/bin/nft")


def test_a_program_that_crashes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nft"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(HypervisorError, match="nft was ended by SIGSEGV"):
        link._run(["nft", "-f", "-"], "")
