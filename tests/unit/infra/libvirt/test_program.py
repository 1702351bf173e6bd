"""The program against Pulumi's mocks: every topology becomes the resources that it should, and says what to use."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime import mocks, rpc

from infra.hypervisor.host import Hypervisor
from infra.images.vm import VmImage
from infra.libvirt import arguments, drain, keys, nodes, program, settings
from infra.libvirt.nodes import NodeInstall
from infra.libvirt.program import Host
from infra.libvirt.registry import Lab
from infra.topology import TopologyError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWN = "qemu:///system?socket=/own"


class Engine(mocks.Mocks):
    """Remembers what the program registered; keys are really made, so that what follows from them is real too."""

    def __init__(self) -> None:
        self.made: list[mocks.MockResourceArgs] = []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.made.append(args)
        if args.typ == "pulumi-python:dynamic/sampan:Keys":
            return "keys", {**args.inputs, "files": keys.made(args.inputs, {}, NOW)}
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        raise AssertionError(f"the program called {args.token}")

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Inputs by name of the resources whose type ends so."""
        return {
            one.name: {key: rpc.unwrap_rpc_secret(value) for key, value in one.inputs.items()}
            for one in self.made
            if one.typ.endswith(kind)
        }


@pytest.fixture(autouse=True)
def loop() -> Iterator[None]:
    """Pulumi's mocks want one that is there already; tests with loops of their own leave none behind."""
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield
    asyncio.set_event_loop(None)
    made.close()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    wheel = tmp_path / "sampan-0-py3-none-any.whl"
    wheel.write_bytes(b"code")
    monkeypatch.setattr("infra.install.release.of_wheel", lambda path: None)
    image = VmImage(Path("/c/disk.qcow2"), Path("/c/vmlinuz"), Path("/c/initrd.img"), "root=/dev/vda rw quiet", 4 << 30)
    return Host(hypervisor=Hypervisor(OWN, "ns", "qemu", "a test"), image=image, wheel=wheel, code="0")


def run(here: Host, **values: object) -> tuple[Engine, dict[str, Any]]:
    """What the program registered for this configuration, and its outputs."""
    engine, exported = Engine(), {}
    wish = settings.read(values, stack="dev", index=2)
    pulumi.runtime.set_mocks(engine, project="sampan-test", stack="dev", preview=False)

    @pulumi.runtime.test
    def declared() -> pulumi.Output[object]:
        lab = Lab(topology=wish.topology, project="sampan-test", stack="dev", folder="/p")
        outputs: dict[str, Any] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pulumi.export", outputs.__setitem__)
            program.declare(wish, here, lab)
        secrecy = {name: pulumi.Output.from_input(value).is_secret() for name, value in outputs.items()}
        return pulumi.Output.all(outputs, secrecy).apply(lambda seen: exported.update(values=seen[0], secret=seen[1]))

    declared()
    return engine, exported


TOPOLOGIES = [
    pytest.param({"workers": 0}, id="one-machine"),
    pytest.param({"workers": 1}, id="1+1"),
    pytest.param({"workers": 5, "separate": "true", "zones": ["a", "b"]}, id="1+5-separate-in-zones"),
    pytest.param({"workers": 2, "controlPlanes": 3}, id="3+2"),
    pytest.param({"workers": 1, "networks": {"podsV4": "10.9.0.0/16", "clusterDomain": "x.test"}}, id="own-networks"),
    pytest.param({"workers": 1, "image": "/debian.qcow2", "machine": "q35", "provider": "upstream"}, id="own-image"),
]


@pytest.mark.parametrize("values", TOPOLOGIES)
def test_each_node_is_a_disk_a_machine_and_an_installation(here: Host, values: dict[str, object]) -> None:
    engine, exported = run(here, **values)
    topology = settings.read(values, stack="dev", index=2).topology
    names = [node.name for node in topology.nodes]
    assert set(engine.of(":Domain")) == set(names)
    assert set(engine.of(":CloudInitDisk")) == set(names)
    assert set(engine.of(":NodeInstall")) == set(names)
    assert set(engine.of(":Volume")) > set(names)
    assert Counter(one.typ for one in engine.made)["libvirt:index/network:Network"] == 1
    assert [node["name"] for node in exported["values"]["nodes"]] == names
    assert exported["values"]["api_endpoint"] == "https://172.30.2.10:6443"


def test_a_machine_has_the_size_of_its_role(here: Host) -> None:
    engine, _ = run(here, workers=1, worker={"memoryMib": 900, "vcpus": 1, "diskGib": 7}, machine="q35")
    control, worker = (engine.of(":Domain")[name] for name in ("control-plane-1", "worker-1"))
    assert (control["memory"], worker["memory"], worker["vcpu"], worker["machine"]) == (1536, 900, 1, "q35")
    assert engine.of(":Volume")["worker-1"]["size"] == 7 << 30


def test_machines_are_found_by_fixed_names_and_addresses(here: Host) -> None:
    engine, _ = run(here, workers=1)
    domain = engine.of(":Domain")["worker-1"]
    assert (domain["name"], domain["type"]) == ("dev-worker-1", "qemu")
    (interface,) = domain["networkInterfaces"]
    assert interface["networkId"] == "network-id"
    assert interface["mac"] == "52:54:00:5a:02:03"
    network = engine.of(":Network")["network"]
    assert network["addresses"] == ["172.30.2.0/24", "fd00:172:30:2::/64"]
    assert {"hostname": "worker-1", "ip": "172.30.2.13"} in network["dns"]["hosts"]
    config = json.loads(engine.of(":CloudInitDisk")["worker-1"]["networkConfig"])["ethernets"]["node"]
    assert config["addresses"] == ["172.30.2.13/24", "fd00:172:30:2::d/64"]


def test_a_machine_is_known_by_the_host_key_that_it_is_given(here: Host) -> None:
    engine, _ = run(here, workers=0)
    told = yaml.safe_load(engine.of(":CloudInitDisk")["control-plane-1"]["userData"])
    assert told["ssh_keys"]["ed25519_public"] == engine.of(":NodeInstall")["control-plane-1"]["hostKey"]
    assert "PRIVATE KEY" in told["ssh_keys"]["ed25519_private"]
    (known,) = engine.of(":Access")["access"]["files"]["known_hosts"].splitlines()
    assert known == f"control-plane-1,172.30.2.10,fd00:172:30:2::a {told['ssh_keys']['ed25519_public'].strip()}"


def test_a_node_gets_its_own_keys_alone(here: Host) -> None:
    engine, _ = run(here, workers=2)
    for name in ("worker-1", "worker-2"):
        given = engine.of(":NodeInstall")[name]["keys"]
        assert f"kubelet-{name}.key" in given
        assert not {"ca.key", "sa.key", "admin.key"} & set(given)
    assert "ca.key" in engine.of(":NodeInstall")["control-plane-1"]["keys"]


def test_what_is_secret_is_marked_and_what_tells_why_is_not(here: Host) -> None:
    engine, exported = run(here, workers=1)
    assert exported["secret"] == {"kubeconfig": True, "api_endpoint": False, "nodes": False}
    files = engine.of(":NodeInstall")["worker-1"]["files"]
    assert "/etc/sampan/kubelet.yaml" in files
    assert all("-----" not in value for value in files.values())


def test_a_new_worker_leaves_the_others_as_they_are(here: Host) -> None:
    """Keys differ here, because mocks make them anew; whatever is not made from keys must be the same."""
    before, _ = run(here, workers=1)
    after, _ = run(here, workers=2)
    for kind in (":Domain", ":Volume"):
        assert after.of(kind).items() >= before.of(kind).items()
    for node in ("control-plane-1", "worker-1"):
        one, other = (engine.of(":NodeInstall")[node]["files"] for engine in (before, after))
        changed = {path for path in other if one.get(path) != other[path]}
        assert all("pki" in path or "kubeconfig" in path or "sampan-" in path for path in changed), changed


def test_a_changed_setting_of_the_control_plane_reaches_it_alone(here: Host) -> None:
    small, _ = run(here, workers=1)
    large, _ = run(here, workers=1, controlPlane={"memoryMib": 3000})
    assert small.of(":Domain")["worker-1"] == large.of(":Domain")["worker-1"]
    assert small.of(":Domain")["control-plane-1"] != large.of(":Domain")["control-plane-1"]


def test_each_hypervisor_has_its_own_network_pool_and_base(here: Host) -> None:
    here = replace(here, types={"qemu+ssh://other/system": "kvm"})
    engine, _ = run(here, workers=2, hypervisors={"worker-2": "qemu+ssh://other/system"})
    assert {name: one["type"] for name, one in engine.of(":Domain").items()} == {
        "control-plane-1": "qemu", "worker-1": "qemu", "worker-2": "kvm",
    }  # fmt: skip
    assert {one["uri"] for one in engine.of("providers:libvirt").values()} == {OWN, "qemu+ssh://other/system"}
    assert set(engine.of(":Network")) == {"network", "network-1"}
    assert set(engine.of(":Pool")) == {"pool", "pool-1"}
    assert engine.of(":Domain")["worker-2"]["networkInterfaces"][0]["networkId"] == "network-1-id"
    assert engine.of(":Network")["network-1"]["mode"] == "bridge"
    assert "addresses" not in engine.of(":Network")["network-1"]  # there is one gateway
    # Two libvirtds of one machine have one file system, and of another one's nobody here reads a file.
    folders = {name: one["target"]["path"] for name, one in engine.of(":Pool").items()}
    assert folders == {name: f"/var/lib/sampan-labs/dev/{name}" for name in ("pool", "pool-1")}
    consoles = {name: one["consoles"][0]["type"] for name, one in engine.of(":Domain").items()}
    assert consoles == {"control-plane-1": "file", "worker-1": "file", "worker-2": "pty"}


def test_a_cloud_image_boots_by_itself(here: Host) -> None:
    engine, _ = run(here, workers=0, image="/debian.qcow2")
    assert engine.of(":Volume")[arguments.BASE]["source"] == "/debian.qcow2"
    assert not {"kernel", "initrd", "cmdlines"} & set(engine.of(":Domain")["control-plane-1"])
    assert engine.of(":NodeInstall")["control-plane-1"]["ownImage"] == "/debian.qcow2"


def test_nodes_that_were_ready_change_one_after_the_other(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: dict[str, list[str]] = {}

    def noted(topology: Any, node: Any, options: pulumi.ResourceOptions) -> drain.Drain:
        before = options.depends_on if isinstance(options.depends_on, list) else []
        waits[node.name] = [one._name for one in before if isinstance(one, program.NodeInstall)]
        return drain.Drain(topology, node, options)

    monkeypatch.setattr(program, "Drain", noted)
    run(replace(here, installed={"control-plane-1", "worker-1"}), workers=2)
    assert waits == {"control-plane-1": [], "worker-1": ["control-plane-1"], "worker-2": []}


def test_a_new_worker_is_installed_while_its_control_plane_is(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: dict[str, list[str]] = {}

    def noted(name: str, props: Any, options: pulumi.ResourceOptions) -> NodeInstall:
        before = options.depends_on if isinstance(options.depends_on, list) else []
        waits[name] = [one._name for one in before if isinstance(one, NodeInstall)]
        return NodeInstall(name, props, options)

    monkeypatch.setattr(program, "NodeInstall", noted)
    run(here, workers=1)
    assert waits == {"control-plane-1": [], "worker-1": []}


@pytest.mark.parametrize(("node", "waits"), [("control-plane-1", []), ("worker-1", ["worker-1"])])
def test_a_workers_installation_waits_for_the_api(node: str, waits: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(nodes.cluster, "wait_api", lambda kubeconfig, name, say: asked.append(name))
    topology = settings.read({"workers": 1}, stack="dev", index=2).topology
    todo = nodes.Installation(topology, topology.node(node), {}, b"", "", Path("/w"), own_image=False)
    nodes.started(todo, print)
    assert asked == waits


def test_three_control_planes_are_refused_before_anything_is_made() -> None:
    wish = settings.read({"controlPlanes": 3}, stack="dev", index=0)
    with pytest.raises(TopologyError, match=r"^controlPlanes: 3: .* SQLite, .*: set it to 1"):
        program.refuse_unsupported(wish.topology)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        pytest.param({"domainType": "xen"}, "domainType: 'xen': must be one of auto, kvm, qemu", id="type"),
        pytest.param({"machine": "microvm"}, "machine: 'microvm': must be one of pc, q35", id="machine"),
        pytest.param({"provider": "other"}, "provider: 'other': must be one of", id="provider"),
        pytest.param({"uri": "host"}, "uri: 'host': must be a libvirt URI", id="uri"),
        pytest.param({"wrkers": 1}, "wrkers: 1: there is no such setting", id="unknown"),
    ],
)
def test_a_wrong_setting_names_field_value_and_rule(values: dict[str, object], says: str) -> None:
    with pytest.raises(TopologyError) as caught:
        settings.read(values, stack="dev", index=0)
    assert str(caught.value).startswith(says)


def test_settings_are_those_of_our_namespace() -> None:
    assert settings.namespaced({"sampan:workers": "1", "libvirt:uri": "x"}) == {"workers": "1"}


def test_flags_of_the_kernel_keep_their_order() -> None:
    words = [{"root": "/dev/vda"}, {"_": "rw"}, {"a": "b=c"}]
    assert arguments.kernel_arguments("root=/dev/vda rw a=b=c", "kvm") == words
    emulated = [{"clearcpuid": "erms,fsrm"}, {"_": "norandmaps"}]
    assert arguments.kernel_arguments("root=/dev/vda rw a=b=c", "qemu") == [*words, *emulated]
