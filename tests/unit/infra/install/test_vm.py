"""What a node shall have, and the hashes of it that Pulumi compares and keeps."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from infra import pki
from infra.install import components, vm
from infra.topology import Topology

LAB = Topology(backend="libvirt", workers=1)
KEYS = pki.generate(LAB, {}, datetime(2026, 1, 1, tzinfo=UTC))


def prints(lab: Topology, node: str, keys: dict[str, bytes] | None = None) -> dict[str, str]:
    return vm.fingerprint(vm.wanted(lab, lab.node(node), keys or pki.generate(lab, KEYS, NOW), None))


NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_the_same_wish_has_the_same_fingerprint() -> None:
    assert prints(LAB, "worker-1", KEYS) == prints(LAB, "worker-1", dict(reversed(KEYS.items())))


def test_another_worker_reaches_no_other_node() -> None:
    more = Topology(backend="libvirt", workers=2)
    keys = pki.generate(more, KEYS, NOW)
    for node in ("control-plane-1", "worker-1"):
        assert prints(LAB, node, keys) == prints(more, node, keys), node


def test_a_key_that_was_made_anew_shows_where_it_is_laid_down() -> None:
    before = prints(LAB, "worker-1", KEYS)
    fresh = pki.generate(LAB, {}, NOW)
    after = prints(LAB, "worker-1", {**KEYS, "kubelet-worker-1.key": fresh["kubelet-worker-1.key"]})
    assert {name for name in before if before[name] != after[name]} == {
        "/etc/sampan/pki/kubelet.key",
        "/etc/systemd/system/sampan-kubelet.service",
    }


def test_no_key_is_in_a_fingerprint() -> None:
    """Neither as it is nor as the hash of the key alone, by which it could be looked up."""
    text = repr(prints(LAB, "control-plane-1", KEYS))
    for name, content in KEYS.items():
        if name.endswith(".key"):
            assert content.decode().splitlines()[1] not in text
            assert hashlib.sha256(content).hexdigest()[:32] not in text


def test_a_node_needs_only_its_own_keys() -> None:
    for node in LAB.nodes:
        given = {name: KEYS[name] for name in components.key_names(node)}
        assert prints(LAB, node.name, given) == prints(LAB, node.name, KEYS)


def test_a_virtual_machine_asks_its_labs_network_for_names() -> None:
    wish = vm.wanted(LAB, LAB.node("worker-1"), KEYS, None)
    (file,) = [file for file in wish.files if file.path == "/etc/resolv.conf"]
    assert file.content.decode() == "nameserver 172.30.0.1\nnameserver fd00:172:30::1\n"


def test_what_is_asked_for_health_belongs_to_a_unit_of_the_node() -> None:
    for lab in (LAB, Topology(backend="libvirt", workers=1, separate=True)):
        for node in lab.nodes:
            wish = vm.wanted(lab, node, pki.generate(lab, KEYS, NOW), None)
            assert set(wish.checks.values()) <= {unit.name for unit in wish.units}
            assert any(unit.startswith("sampan-kubelet") for unit in wish.checks.values())
