"""Which type domains have: configured, remembered, or found by booting the tiny guest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.hypervisor import kvm
from infra.hypervisor.errors import HypervisorError


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(kvm, "DEVICE", device)
    return device


@pytest.mark.parametrize(
    ("configured", "environment", "found"),
    [
        pytest.param("kvm", {}, "kvm", id="the-lab-says"),
        pytest.param(None, {"SAMPAN_DOMAIN_TYPE": "qemu"}, "qemu", id="the-environment-says"),
        pytest.param("kvm", {"SAMPAN_DOMAIN_TYPE": "qemu"}, "kvm", id="the-lab-goes-first"),
    ],
)
def test_configuration_overrides(device: Path, configured: str | None, environment: dict[str, str], found: str) -> None:
    assert kvm.domain_type(configured, environment=environment) == found


def test_a_wrong_word_is_refused_with_the_right_ones(device: Path) -> None:
    with pytest.raises(HypervisorError, match="domainType: 'xen' is neither kvm nor qemu"):
        kvm.domain_type("xen", environment={})


def test_without_the_device_nothing_is_tried(device: Path) -> None:
    device.unlink()
    assert kvm.domain_type(environment={}) == "qemu"
    assert not (device.parent / "sampan").exists()


@pytest.mark.parametrize(
    ("reason", "found", "told"),
    [
        pytest.param("", "kvm", 1, id="it-works"),
        pytest.param("emulation failure", "qemu", 2, id="it-does-not"),
    ],
)
def test_the_probe_decides_once_a_boot(
    device: Path, monkeypatch: pytest.MonkeyPatch, reason: str, found: str, told: int
) -> None:
    tries: list[str] = []
    monkeypatch.setattr(kvm, "why_not", lambda accelerator, cpu: tries.append(accelerator) or reason)
    said: list[str] = []
    for _ in range(2):
        assert kvm.domain_type(environment={}, say=said.append) == found
    assert tries == ["kvm"]
    assert len(said) == told
    assert reason in said[-1]
    known = device.parent / "sampan/kvm-probe.json"
    known.write_text(json.dumps({**json.loads(known.read_text()), "boot": "the boot before"}))
    assert kvm.domain_type(environment={}) == found
    assert len(tries) == 2


def test_a_torn_answer_is_asked_again(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (device.parent / "sampan").mkdir()
    (device.parent / "sampan/kvm-probe.json").write_text('{"boot": ')
    monkeypatch.setattr(kvm, "why_not", lambda accelerator, cpu: "")
    assert kvm.domain_type(environment={}) == "kvm"


def test_the_boot_sector_is_one() -> None:
    assert len(kvm.BOOT_SECTOR) <= 510
