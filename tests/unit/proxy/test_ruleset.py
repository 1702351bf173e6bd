"""Services and endpoints → elements, chains and transactions, as tables and laws."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.proxy.endpoints import Here, choose
from orchestrator.proxy.ruleset import LOCAL, Rules, Shape, chain_rules, rules_of, slot
from orchestrator.proxy.services import Endpoint, ServicePort, parse_service, parse_slice
from orchestrator.proxy.transaction import Committed

HERE = Here("n1", "z1")
A = Endpoint("10.244.1.1", 8080, "n1")
B = Endpoint("10.244.2.1", 8080, "n2")


def service(**spec: Any) -> dict[str, Any]:
    port = {"name": "http", "port": 80, "protocol": "TCP", **spec.pop("port", {})}
    base = {"type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [port]}
    return {"metadata": {"namespace": "d", "name": "web"}, "spec": base | spec, "status": {}}


def port_of(**spec: Any) -> ServicePort:
    (port,) = parse_service(service(**spec))
    return port


def rules(endpoints: list[Endpoint], **spec: Any) -> Rules:
    port = port_of(**spec)
    return rules_of(port, choose(port, endpoints, HERE))


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"clusterIP": "None", "clusterIPs": ["None"]}, id="headless"),
        pytest.param({"type": "ExternalName"}, id="external-name"),
        pytest.param({"clusterIP": ""}, id="no-address-yet"),
    ],
)
def test_no_service_ports(spec: dict[str, Any]) -> None:
    assert parse_service(service(**spec)) == ()


def test_a_dual_stack_service_has_a_service_port_of_each_family() -> None:
    found = parse_service(service(clusterIPs=["10.96.0.7", "fd00::7"]))
    assert [(port.family, port.cluster_ips) for port in found] == [("4", ("10.96.0.7",)), ("6", ("fd00::7",))]


def test_cluster_ip() -> None:
    found = rules([A, B])
    assert found.elements == {
        ("cluster-ip4", "10.96.0.7"): "",
        ("vip4", "10.96.0.7 . tcp . 80"): "goto vip4-n2",
        ("vip-endpoint4", "10.96.0.7 . tcp . 80 . 0"): "10.244.1.1 . 8080",
        ("vip-endpoint4", "10.96.0.7 . tcp . 80 . 1"): "10.244.2.1 . 8080",
        ("hairpin4", "10.244.1.1 . 10.244.1.1"): "",
    }
    assert found.shapes == {Shape("vip", "4", 2)}


@pytest.mark.parametrize(
    ("endpoints", "spec", "verdict"),
    [
        pytest.param([], {}, "goto refuse", id="no-endpoint-anywhere-is-refused"),
        pytest.param([B], {"internalTrafficPolicy": "Local"}, "drop", id="internal-local-is-dropped"),
    ],
)
def test_refused(endpoints: list[Endpoint], spec: dict[str, Any], verdict: str) -> None:
    assert rules(endpoints, **spec).elements["vip-refused4", "10.96.0.7 . tcp . 80"] == verdict


def test_affinity_leads_over_slots_that_survive_other_endpoints() -> None:
    both = rules([A, B], sessionAffinity="ClientIP").elements
    alone = rules([B], sessionAffinity="ClientIP").elements
    key = f"10.96.0.7 . tcp . 80 . {slot(B)}"
    assert both["vip-endpoint4", key] == alone["vip-endpoint4", key] == "10.244.2.1 . 8080"
    assert (
        both["vip-slot4", "10.96.0.7 . tcp . 80 . 1"] == alone["vip-slot4", "10.96.0.7 . tcp . 80 . 0"] == str(slot(B))
    )
    assert ("vip-endpoint4", "10.96.0.7 . tcp . 80 . 0") not in both, "a client's number must never be taken for a slot"


def test_external_policy_local_keeps_both_lists() -> None:
    found = rules([A, B], type="NodePort", externalTrafficPolicy="Local", port={"nodePort": 30080})
    assert found.elements["node4", "tcp . 30080"] == "goto node4-n2-l1-ext"
    assert found.elements["node-endpoint4", f"tcp . 30080 . {LOCAL}"] == "10.244.1.1 . 8080"
    assert chain_rules(Shape("node", "4", 2, 0, external=True))[-1] == "drop"


def test_source_ranges_guard_the_load_balancer_address() -> None:
    obj = service(type="LoadBalancer", loadBalancerSourceRanges=["192.0.2.9/24"])
    obj["status"] = {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}}
    (port,) = parse_service(obj)
    found = rules_of(port, choose(port, [A], HERE)).elements
    assert ("guarded4", "198.51.100.1 . tcp . 80") in found
    assert ("allowed4", "198.51.100.1 . tcp . 80 . 192.0.2.0/24") in found


def test_source_ranges_that_overlap_are_one() -> None:
    """An interval set takes no element within another: the whole transaction would be refused."""
    ranges = ["10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "fd00::/16", "fd00:1::/32", "192.0.2.0/25", "192.0.2.128/25"]
    obj = service(type="LoadBalancer", clusterIPs=["10.96.0.7", "fd00::7"], loadBalancerSourceRanges=ranges)
    four, six = parse_service(obj)
    assert four.source_ranges == ("10.0.0.0/8", "192.0.2.0/24")
    assert six.source_ranges == ("fd00::/16",)


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        pytest.param([("a", True, True, False)], ["a"], id="ready"),
        pytest.param([("a", True, True, False), ("b", False, True, True)], ["a"], id="terminating-is-not-used"),
        pytest.param([("b", False, True, True)], ["b"], id="unless-nothing-else-serves"),
        pytest.param([("c", False, False, False)], [], id="unready-is-never-used"),
    ],
)
def test_choose(endpoints: list[tuple[str, bool, bool, bool]], expected: list[str]) -> None:
    made = [Endpoint(name, 80, "n1", ready, serving, terminating) for name, ready, serving, terminating in endpoints]
    assert [endpoint.address for endpoint in choose(port_of(), made, HERE).cluster] == expected


def test_zone_hints_are_followed_only_when_all_have_them() -> None:
    near = Endpoint("a", 80, zones=frozenset({"z1"}))
    far = Endpoint("b", 80, zones=frozenset({"z2"}))
    assert choose(port_of(), [near, far], HERE).cluster == (near,)
    assert len(choose(port_of(), [near, far, Endpoint("c", 80)], HERE).cluster) == 3


def test_slice_conditions_default_to_ready() -> None:
    found = parse_slice(
        {
            "metadata": {"namespace": "d", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": False}}],
        }
    )
    assert found is not None
    assert [endpoint.ready for endpoint in found.ports["http", "tcp"]] == [True, False]


def test_one_more_endpoint_changes_few_elements() -> None:
    committed = Committed()
    committed.change({"p": rules([A])})
    commands = committed.change({"p": rules([A, B])})
    assert commands == [
        "add chain inet sampan-proxy vip4-n2",
        "add rule inet sampan-proxy vip4-n2 ip saddr != @pod-network4 jump masquerade-later",
        "add rule inet sampan-proxy vip4-n2 meta mark set numgen random mod 2",
        "add rule inet sampan-proxy vip4-n2 dnat ip to ip daddr . meta l4proto . th dport . meta mark"
        " map @vip-endpoint4",
        "delete element inet sampan-proxy vip4 { 10.96.0.7 . tcp . 80 : goto vip4-n1 }",
        "add element inet sampan-proxy vip4 { 10.96.0.7 . tcp . 80 : goto vip4-n2 }",
        "add element inet sampan-proxy vip-endpoint4 { 10.96.0.7 . tcp . 80 . 1 : 10.244.2.1 . 8080 }",
        "flush chain inet sampan-proxy vip4-n1",
        "delete chain inet sampan-proxy vip4-n1",
    ]
    assert committed.change({"p": rules([A, B])}) == [], "the same wish again changes nothing"


def test_a_shared_element_goes_with_its_last_user() -> None:
    committed = Committed()
    shared = Rules({("hairpin4", "x . x"): ""})
    committed.change({"p": shared, "q": shared})
    assert committed.change({"p": None}) == []
    assert committed.change({"q": None}) == ["delete element inet sampan-proxy hairpin4 { x . x }"]


ENDPOINTS = st.lists(st.sampled_from([A, B, Endpoint("10.244.3.1", 80), Endpoint("10.244.4.1", 81)]), unique=True)


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.none() | ENDPOINTS), max_size=20))
def test_removing_everything_leaves_nothing(steps: list[tuple[str, list[Endpoint] | None]]) -> None:
    committed = Committed()
    balance: dict[str, int] = {}
    for name, endpoints in [*steps, *(("p", None), ("q", None), ("r", None))]:
        for command in committed.change({name: None if endpoints is None else rules(endpoints)}):
            verb, what, _, _, subject, *rest = command.split(" ", 5)
            if what == "element":
                for key in rest[0].strip("{ }").split(", "):
                    balance[f"{subject} {key}"] = balance.get(f"{subject} {key}", 0) + (1 if verb == "add" else -1)
            elif what == "chain" and verb != "flush":
                balance[subject] = balance.get(subject, 0) + (1 if verb == "add" else -1)
    assert set(balance.values()) <= {0}
