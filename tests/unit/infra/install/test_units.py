"""Units of systemd: one a process, started again when, and only when, something that its process reads is another."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from infra import pki
from infra.install import components, units, vm
from infra.install.connection import File
from infra.topology import Machine, Topology

LABS = {
    "one-and-two": Topology(backend="libvirt", workers=2),
    "alone": Topology(backend="libvirt", workers=0),
    "apart": Topology(backend="libvirt", workers=1, separate=True),
    "three-control-planes": Topology(backend="libvirt", control_planes=3, workers=1),
    "machines": Topology(
        backend="machines",
        workers=0,
        machines=(Machine(ssh="root@192.0.2.1", address_v4="192.0.2.1", address_v6="2001:db8::1"),),
    ),
}
NODES = [pytest.param(lab, node.name, id=f"{name}-{node.name}") for name, lab in LABS.items() for node in lab.nodes]
KEYS = {id(lab): pki.generate(lab, {}, datetime(2026, 1, 1, tzinfo=UTC)) for lab in LABS.values()}


def wanted(lab: Topology, node: str) -> vm.Wanted:
    return vm.wanted(lab, lab.node(node), KEYS[id(lab)], None)


@pytest.mark.parametrize(("lab", "node"), NODES)
def test_every_process_has_a_unit(lab: Topology, node: str) -> None:
    named = [unit.name for unit in wanted(lab, node).units]
    processes = components.processes(lab, lab.node(node))
    assert named == [units.IMAGES, *(f"sampan-{process.name}.service" for process in processes)]


@pytest.mark.parametrize(("lab", "node"), NODES)
def test_every_setting_and_key_is_read_by_a_process(lab: Topology, node: str) -> None:
    """Else a change of it would start nothing again."""
    processes = [process.name for process in components.processes(lab, lab.node(node))]
    unread = [
        file.path
        for file in components.files(lab, lab.node(node), KEYS[id(lab)])
        if not any(units.reads(process, file.path) for process in processes)
    ]
    assert not unread


def test_kubeconfigs_of_what_shares_a_process_belong_to_it() -> None:
    assert units.reads("server", "/etc/sampan/scheduler.kubeconfig")
    assert not units.reads("kubelet", "/etc/sampan/scheduler.kubeconfig")


def changed(before: vm.Wanted, after: vm.Wanted) -> list[str]:
    pairs = zip(before.units, after.units, strict=True)
    return [new.name for old, new in pairs if old.inputs != new.inputs]


@pytest.mark.parametrize(
    ("path", "started_again"),
    [
        pytest.param("/etc/sampan/kubelet.yaml", ["sampan-kubelet.service"], id="settings"),
        pytest.param("/etc/sampan/pki/sa.key", ["sampan-server.service"], id="key"),
        pytest.param("/etc/sampan/proxy.kubeconfig", ["sampan-node.service"], id="kubeconfig"),
        pytest.param(
            "/etc/sampan/pki/ca.crt", ["sampan-server.service", "sampan-kubelet.service"], id="key-of-several"
        ),
        pytest.param(f"{vm.CONTAINERS}/storage.conf", ["sampan-podman.service"], id="podman's"),
        pytest.param("/etc/hosts", [], id="read-by-none"),
    ],
)
def test_what_a_changed_file_starts_again(path: str, started_again: list[str]) -> None:
    lab = LABS["alone"]
    node = lab.control_plane
    before = wanted(lab, node.name)
    files = [replace(file, content=file.content + b"#") if file.path == path else file for file in before.files]
    assert files != list(before.files)
    made = units.units(lab.name, node, components.processes(lab, node), files, "")
    assert changed(before, replace(before, units=made)) == started_again


def test_new_code_starts_our_own_again_and_leaves_podman() -> None:
    lab = LABS["alone"]
    node = lab.control_plane
    before = wanted(lab, node.name)
    made = units.units(lab.name, node, components.processes(lab, node), before.files, "0123")
    assert changed(before, replace(before, units=made)) == [
        "sampan-server.service",
        "sampan-node.service",
        "sampan-kubelet.service",
    ]


def test_the_running_process_tells_what_it_was_started_of() -> None:
    for unit in wanted(LABS["alone"], "control-plane-1").units:
        assert not unit.inputs or f"Environment=SAMPAN_INPUTS={unit.inputs}\n" in unit.content.decode()


def test_the_order_of_files_is_no_matter() -> None:
    files = [File(path=f"/etc/sampan/kubelet.{name}", content=name.encode()) for name in "ab"]
    assert units.read_by("kubelet", files) == units.read_by("kubelet", files[::-1])
