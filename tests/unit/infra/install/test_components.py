"""Every configuration file that we lay down is one that its component reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import pki
from infra.install import cloud, components
from infra.install.machine import SERVER_USER_ID
from infra.topology import Topology
from orchestrator.cli import process

LAB = Topology(workers=2)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("pki")
    pki.ensure(folder, LAB)
    return pki.load(folder)


@pytest.mark.parametrize("component", [name for name in process.MODULES if name != cloud.COMPONENT])
@pytest.mark.parametrize("lab", [LAB, Topology(workers=0)], ids=["with-workers", "alone"])
def test_its_settings_are_accepted(component: str, lab: Topology, keys: dict[str, bytes], tmp_path: Path) -> None:
    files = components.files(lab, lab.control_plane, keys)
    (file,) = [file for file in files if file.path == f"/etc/sampan/{component}.yaml"]
    place = tmp_path / "config.yaml"
    place.write_bytes(file.content)
    process.load(component, place)


def test_private_keys_can_be_read_by_their_user_alone(keys: dict[str, bytes]) -> None:
    for node in LAB.nodes:
        for file in components.files(LAB, node, keys):
            if file.path.endswith((".key", ".kubeconfig")):
                assert file.mode == 0o600, file.path


@pytest.mark.parametrize("node", ["control-plane-1", "worker-1"])
def test_a_node_is_given_only_keys_that_it_asks_for(node: str, keys: dict[str, bytes]) -> None:
    given = {name: keys[name] for name in components.key_names(LAB.node(node))}
    assert components.files(LAB, LAB.node(node), given) == components.files(LAB, LAB.node(node), keys)
    for name in given:
        lacking = {other: pem for other, pem in given.items() if other != name}
        with pytest.raises(KeyError):
            components.files(LAB, LAB.node(node), lacking)


def test_a_worker_has_no_key_of_the_control_plane(keys: dict[str, bytes]) -> None:
    paths = {file.path for file in components.files(LAB, LAB.node("worker-1"), keys)}
    assert not {"/etc/sampan/pki/ca.key", "/etc/sampan/pki/sa.key", "/etc/sampan/pki/apiserver.key"} & paths


def test_processes_share_or_are_apart() -> None:
    def shape(lab: Topology, node: str) -> list[tuple[str, str]]:
        return [(process.name, process.user) for process in components.processes(lab, lab.node(node))]

    server = f"{SERVER_USER_ID}:{SERVER_USER_ID}"
    together = [("podman", "sampan"), ("server", server), ("node", "root"), ("kubelet", "sampan")]
    assert shape(LAB, "control-plane-1") == together
    assert shape(LAB, "worker-1") == [("podman", "sampan"), ("node", "root"), ("kubelet", "sampan")]
    apart = Topology(separate=True, workers=1)
    assert ("scheduler", server) in shape(apart, "control-plane-1")
    assert [name for name, _ in shape(apart, "worker-1")] == ["podman", "porter", "proxy", "dns", "kubelet"]
