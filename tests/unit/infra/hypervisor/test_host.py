"""Which hypervisor is chosen, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.hypervisor import host, packages
from infra.hypervisor.errors import HypervisorError

DENIED = "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied"
ABSENT = "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory"


@pytest.fixture
def virsh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virsh that refuses with what its `says` has, and answers where that is empty."""
    program = tmp_path / "virsh"
    program.write_text(
        f"#!/bin/sh\n[ -s {tmp_path}/says ] || exit 0\n"
        'printf "error: failed to connect to the hypervisor\\nerror: " >&2\n'
        f"cat {tmp_path}/says >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(host, "install_missing", lambda say: [])
    (tmp_path / "says").write_text("")
    return tmp_path / "says"


def test_the_users_uri_goes_first(virsh: Path) -> None:
    found = host.ensure(print, {"LIBVIRT_DEFAULT_URI": "qemu:///session", "SAMPAN_DOMAIN_TYPE": "kvm"})
    assert (found.uri, found.netns, found.domain_type) == ("qemu:///session", None, "kvm")


def test_a_system_libvirtd_that_answers_is_used(virsh: Path) -> None:
    found = host.ensure(print, {"SAMPAN_DOMAIN_TYPE": "qemu"})
    assert (found.uri, found.netns) == ("qemu:///system", None)


@pytest.mark.parametrize(
    ("refusal", "remedy"),
    [
        pytest.param(DENIED, "usermod -aG libvirt", id="no-permission"),
        pytest.param(ABSENT, "Start libvirtd there", id="no-libvirtd"),
    ],
)
def test_a_users_uri_that_refuses_is_not_replaced(virsh: Path, refusal: str, remedy: str) -> None:
    virsh.write_text(refusal)
    with pytest.raises(HypervisorError) as raised:
        host.ensure(print, {"LIBVIRT_DEFAULT_URI": "qemu:///system"})
    assert refusal in raised.value.cause
    assert "LIBVIRT_DEFAULT_URI" in raised.value.cause
    assert remedy in raised.value.remedy


def test_without_libvirtd_and_root_the_remedy_names_both_ways(virsh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    virsh.write_text(DENIED)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(HypervisorError) as raised:
        host.ensure(print, {})
    assert "Permission denied" in raised.value.cause
    assert "group libvirt" in raised.value.remedy
    assert "sudo" in raised.value.remedy


def test_missing_packages_are_named_to_who_may_not_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PACKAGES", {"surely-not-a-command": "some-package"})
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(HypervisorError, match="apt-get install some-package"):
        host.install_missing(print)


def test_without_apt_get_the_distribution_is_pointed_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PACKAGES", {"surely-not-a-command": "some-package"})
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HypervisorError, match="own distribution's packages"):
        host.install_missing(print)


def test_a_package_is_lacking_once_though_two_signs_miss() -> None:
    assert packages.lacking(lambda sign: sign not in ("virsh", "ip")) == ["iproute2", "libvirt-clients"]


@pytest.mark.parametrize(
    ("uri", "quiet"),
    [
        pytest.param("qemu+ssh://host/system", "qemu+ssh://host/system?no_tty=1", id="ssh"),
        pytest.param("qemu+ssh://h/system?keyfile=k", "qemu+ssh://h/system?keyfile=k&no_tty=1", id="with-parameters"),
        pytest.param("qemu:///system", "qemu:///system", id="local"),
    ],
)
def test_ssh_asks_nothing(uri: str, quiet: str) -> None:
    assert host.quiet(uri) == quiet


def test_libvirts_words_are_passed_on(virsh: Path) -> None:
    virsh.write_text(DENIED)
    assert host.connect("qemu:///system") == DENIED


def test_without_clients_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.connect("qemu:///system") == "libvirt's clients are not installed"
