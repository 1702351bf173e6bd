from __future__ import annotations

import itertools
import json
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from infra.local import layout
from infra.topology import LAB_INDEX_MAX, LIBVIRT, NODE_IDS, NODES_MAX, Networks, Size, Topology, TopologyError


def test_nodes_are_named_by_role_and_numbered_apart() -> None:
    assert [node.name for node in Topology(workers=2).nodes] == ["control-plane-1", "worker-1", "worker-2"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        pytest.param({"name": "Lab"}, "name", id="a-name-that-is-no-label"),
        pytest.param({"name": "x" * 33}, "name", id="a-name-that-is-too-long"),
        pytest.param({"index": LAB_INDEX_MAX + 1}, "index", id="an-index-that-has-no-ids"),
        pytest.param({"control_planes": 2}, "controlPlanes", id="two-control-planes"),
        pytest.param({"workers": NODES_MAX}, "workers", id="more-nodes-than-ids"),
    ],
)
def test_a_lab_that_cannot_be_names_its_field(wrong: dict[str, object], field: str) -> None:
    with pytest.raises(TopologyError, match=f"^{field}: "):
        Topology(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        pytest.param({"pods_v4": "10.244.0.0"}, "networks", id="too-small"),
        pytest.param({"pods_v4": "fd00::/56"}, "networks.pods_v4", id="the-other-family"),
        pytest.param({"services_v4": "10.244.9.0/24"}, "networks.services_v4", id="inside-the-pods-network"),
        pytest.param({"services_v6": "nonsense"}, "networks.services_v6", id="no-network-at-all"),
    ],
)
def test_networks_that_cannot_be_name_their_field(wrong: dict[str, str], field: str) -> None:
    with pytest.raises(TopologyError, match=f"^{field}"):
        Networks(**wrong)


def test_labs_of_one_machine_share_nothing() -> None:
    labs = [Topology(index=index, workers=NODES_MAX - 1) for index in range(LAB_INDEX_MAX + 1)]
    nodes = [node for lab in labs for node in lab.nodes]
    ids = sorted(node.user_id for node in nodes)
    assert all(low + NODE_IDS <= high for low, high in itertools.pairwise(ids))
    assert ids[-1] + NODE_IDS <= 2**32
    assert len({address for node in nodes for address in (node.address_v4, node.address_v6)}) == 2 * len(nodes)
    links = [layout.host_link(lab, node) for lab in labs for node in lab.nodes] + [layout.bridge(lab) for lab in labs]
    assert len(set(links)) == len(links)
    assert max(map(len, links)) <= 15


def test_a_topology_survives_its_file() -> None:
    lab = Topology(name="a", index=3, workers=5, networks=Networks(pods_v4="10.0.0.0/16"))
    assert Topology.from_data(lab.to_data()) == lab


def test_well_known_services() -> None:
    assert Networks().kubernetes_service == ("10.96.0.1", "fd00:10:96::1")
    assert Networks().dns_service == ("10.96.0.10", "fd00:10:96::a")


def test_labs_of_machines_keep_places_for_three_control_planes() -> None:
    small, large = Topology(backend=LIBVIRT, control_planes=1), Topology(backend=LIBVIRT, control_planes=3)
    assert small.node("worker-1") == large.node("worker-1")
    assert [node.index for node in large.nodes] == [0, 1, 2, 3, 4]


def test_vms_of_all_labs_share_nothing() -> None:
    labs = [Topology(backend=LIBVIRT, index=index, workers=5) for index in range(LAB_INDEX_MAX + 1)]
    nodes = [node for lab in labs for node in lab.nodes]
    assert len({word for node in nodes for word in (node.mac, node.address_v4, node.address_v6)}) == 3 * len(nodes)
    for lab in labs:
        assert lab.node_network_v4.subnet_of(IPv4Network("172.30.0.0/16"))
        assert lab.node_network_v6.subnet_of(IPv6Network("fd00:172:30::/48"))
        (first, last), (first6, last6) = lab.load_balancers
        assert all(IPv4Address(node.address_v4) < first < last for node in lab.nodes)
        assert all(IPv6Address(node.address_v6) < first6 < last6 for node in lab.nodes)


def test_a_topology_of_vms_survives_its_file() -> None:
    lab = Topology(
        backend=LIBVIRT,
        zones=("a", "b"),
        hypervisors={"worker-1": "qemu:///system"},
        worker_size=Size(memory_mib=1024, vcpus=1, disk_gib=5),
    )
    assert Topology.from_data(json.loads(json.dumps(lab.to_data()))) == lab
    assert json.loads(json.dumps(lab.to_data())) == lab.to_data(), "a lab that is as it was must not restart its nodes"
