from __future__ import annotations

import pytest

from infra import configuration
from infra.topology import MACHINES, Networks, Size, Topology, TopologyError


def test_pulumi_hands_over_text_and_json() -> None:
    lab = configuration.topology(
        {
            "workers": "3",
            "controlPlanes": 3,
            "separate": "true",
            "worker": '{"memoryMib": "2048", "vcpus": 4}',
            "networks": {"podsV4": "10.0.0.0/16"},
            "zones": '["a", "b"]',
            "hypervisors": {"worker-2": "qemu+ssh://host/system"},
        },
        name="dev",
        index=4,
    )
    assert (lab.name, lab.index, lab.workers, lab.control_planes, lab.separate) == ("dev", 4, 3, 3, True)
    assert lab.worker_size == Size(memory_mib=2048, vcpus=4, disk_gib=Topology.worker_size.disk_gib)
    assert lab.networks == Networks(pods_v4="10.0.0.0/16")
    assert [node.zone for node in lab.nodes] == ["a", "b", "a", "a", "b", "a"]
    assert lab.node("worker-2").hypervisor == "qemu+ssh://host/system"


def test_nothing_configured_is_a_lab_named_as_its_stack() -> None:
    assert configuration.topology({}, name="dev").name == "dev"
    assert configuration.topology({"name": "mine"}, name="dev").name == "mine"


def test_machines_are_one_a_node() -> None:
    machines = ["root@a", {"ssh": "b:2222", "ipv4": "10.1.0.2", "ipv6": "fd00::2"}]
    lab = configuration.topology({"workers": 1, "machines": machines}, name="own", backend=MACHINES)
    assert [node.ssh for node in lab.nodes] == ["root@a", "b:2222"]
    assert (lab.nodes[1].address_v4, lab.nodes[1].address_v6) == ("10.1.0.2", "fd00::2")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param({"workrs": 1}, "workrs: 1: there is no such setting; there are name", id="a-misspelt-key"),
        pytest.param({"workers": "two"}, "workers: 'two': must be a whole number", id="a-word-for-a-number"),
        pytest.param({"workers": True}, "workers: True: must be a whole number", id="a-truth-for-a-number"),
        pytest.param({"workers": -1}, "workers: -1: must be between 0 and 29", id="fewer-than-none"),
        pytest.param({"controlPlanes": 2}, "controlPlanes: 2: must be 1 or 3", id="no-majority"),
        pytest.param({"separate": "maybe"}, "separate: 'maybe': must be true or false", id="neither-true-nor-false"),
        pytest.param({"worker": "big"}, "worker: 'big': must be a mapping", id="a-size-in-words"),
        pytest.param({"worker": {"memory": 1}}, "worker.memory: 1: there is no such", id="a-misspelt-size"),
        pytest.param({"worker": {"memoryMib": 1}}, "worker.memoryMib: 1: must be between 512", id="too-small"),
        pytest.param({"controlPlane": {"vcpus": 0}}, "controlPlane.vcpus: 0: must be between 1", id="no-processor"),
        pytest.param({"networks": {"podsV4": "10.0.0.0"}}, "networks: '10.0.0.0': pod networks", id="no-network"),
        pytest.param({"zones": ["A b"]}, "zones: 'A b': must be a DNS label", id="a-zone-that-is-no-label"),
        pytest.param({"zones": "a"}, "zones: 'a': must be a list", id="a-zone-alone"),
        pytest.param({"hypervisors": {"w": "x://"}}, "hypervisors: 'w': is no node", id="a-node-that-is-not-there"),
        pytest.param({"hypervisors": {"worker-1": "h"}}, "hypervisors.worker-1: 'h': must be a libvirt", id="no-uri"),
        pytest.param({"networks": {"podsV4": "172.30.0.0/16"}}, "networks: '172.30.0.0/16': overlaps", id="overlap"),
    ],
)
def test_a_wrong_value_names_field_value_and_rule(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(TopologyError) as caught:
        configuration.topology(wrong, name="dev")
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("machines", "says"),
    [
        pytest.param(["a"], "machines: ['a']: must name one machine for each of the 2 nodes", id="too-few"),
        pytest.param(["a", "b c"], "machines[1].ssh: 'b c': must be [user@]host[:port]", id="no-address"),
        pytest.param(["a", {"ssh": "b", "ipv4": "b"}], "machines[1].ipv4: 'b': ", id="a-name-for-an-address"),
        pytest.param(["a", {"ipv4": "10.0.0.1"}], "machines[1]: {'ipv4': '10.0.0.1'}: must say ssh", id="no-ssh"),
    ],
)
def test_a_wrong_machine_names_its_place(machines: list[object], says: str) -> None:
    with pytest.raises(TopologyError) as caught:
        configuration.topology({"workers": 1, "machines": machines}, name="own", backend=MACHINES)
    assert str(caught.value).startswith(says)
