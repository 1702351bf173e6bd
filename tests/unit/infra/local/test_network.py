from __future__ import annotations

from infra.local import network
from infra.topology import Topology

LAB = Topology(index=7, workers=1)


def test_the_bridge_has_the_gateways_of_both_families() -> None:
    text = network.bridge_commands(LAB)
    assert "address add 172.29.7.1/24 dev sampan7" in text
    assert "address add fd00:172:29:7::1/64 dev sampan7 nodad" in text


def test_a_cable_ends_in_the_nodes_namespace() -> None:
    text = network.cable_commands(LAB, LAB.node("worker-1"), 4321)
    assert "name smp7n1 " in text
    assert "peer name eth0 address 02:53:4d:00:07:01 netns 4321" in text


def test_a_node_that_boots_again_has_the_hardware_address_that_its_neighbours_know() -> None:
    node = LAB.node("worker-1")
    first, second = (network.cable_commands(LAB, node, pid).replace(str(pid), "PID") for pid in (1001, 2002))
    assert first == second
    assert len({network.mac(LAB, node) for node in LAB.nodes}) == len(LAB.nodes)


def test_a_node_has_its_addresses_and_the_host_as_gateway() -> None:
    text = network.node_commands(LAB, LAB.node("worker-1"))
    assert "address add 172.29.7.11/24 dev eth0" in text
    assert "route add default via 172.29.7.1 dev eth0" in text
    assert "route add ::/0 via fd00:172:29:7::1 dev eth0" in text


def test_the_way_out_replaces_its_table_in_one_transaction() -> None:
    text = network.way_out(LAB)
    assert text.startswith("table inet sampan-lab-7\ndelete table inet sampan-lab-7\n")
    assert 'iifname "sampan7" oifname != "sampan7" ip daddr { 10.244.0.0/16, 10.96.0.0/16 } drop' in text
    assert 'ip saddr 172.29.7.0/24 oifname != "sampan7" masquerade' in text
