"""The cloud controller's files are ones that it reads, for every backend that has a cloud."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from infra import pki
from infra.install import cloud
from infra.topology import LIBVIRT, Topology
from orchestrator.api import settings
from orchestrator.cloud.gateway_addresses import Range
from orchestrator.cloud.main import Config
from orchestrator.cloud.provider_ids import provider_id

LOCAL_LAB = Topology(name="lab", index=3, zones=("a", "b"))
VM_LAB = Topology(name="vm", backend=LIBVIRT, hypervisors={"worker-2": "qemu+ssh://root@other/system"})


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("pki")
    pki.ensure(folder, LOCAL_LAB)
    return pki.load(folder)


@pytest.mark.parametrize(
    ("lab", "given", "bridge"),
    [
        pytest.param(LOCAL_LAB, cloud.local_settings(Path("/mnt/control.sock")), "sampan3", id="local"),
        pytest.param(VM_LAB, cloud.libvirt_settings(VM_LAB, "qemu:///system"), "", id="libvirt"),
    ],
)
def test_its_settings_are_accepted(
    lab: Topology, given: dict[str, object], bridge: str, keys: dict[str, bytes], tmp_path: Path
) -> None:
    config_file, kubeconfig = cloud.files(lab, keys, tmp_path, given, bridge=bridge)
    Path(config_file.path).write_bytes(config_file.content)
    config = settings.load(config_file.path, Config)
    assert config.lab == lab.name and config.kubeconfig == kubeconfig.path
    assert config.gateway is not None and config.gateway.bridge == bridge
    assert [len(list(Range.parse(text).addresses())) for text in config.gateway.load_balancer_ranges] == [51, 81]
    assert {file.mode for file in (config_file, kubeconfig)} == {0o600}
    chosen = config.local or config.libvirt
    assert chosen is not None
    assert chosen.zones == {node.name: node.zone for node in lab.nodes if node.zone}
    access = yaml.safe_load(kubeconfig.content)
    assert access["clusters"][0]["cluster"]["server"] == lab.server


def test_it_asks_for_its_own_keys_alone(keys: dict[str, bytes], tmp_path: Path) -> None:
    given = {name: keys[name] for name in cloud.KEYS}
    assert len(cloud.files(LOCAL_LAB, given, tmp_path, cloud.local_settings(tmp_path))) == 2


def test_a_machine_elsewhere_is_asked_for_there() -> None:
    assert cloud.libvirt_settings(VM_LAB, "qemu:///system")["uris"] == {"worker-2": "qemu+ssh://root@other/system"}


def test_kubelets_and_the_cloud_agree_on_provider_ids() -> None:
    template = Path(cloud.__file__).parents[2] / "templates/components/kubelet.yaml.j2"
    line = provider_id("{{ lab }}", "{{ node.name }}")
    assert f"provider_id: {line}\n" in template.read_text()
