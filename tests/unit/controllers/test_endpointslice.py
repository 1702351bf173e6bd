from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.meta import Object
from orchestrator.controllers import endpointslicemirroring, service_index
from orchestrator.controllers.endpoints_of import backends, families, ports_of
from orchestrator.controllers.endpointslice import endpoints_object
from orchestrator.controllers.endpointslice_plan import ENDPOINTS_MAX, Plan, plan
from tests.unit.controllers.objects import pod, service


def planned(wish: Object, pods: list[Object], slices: list[Object], zones: dict[str, str] | None = None) -> Plan:
    return plan(wish, {family: backends(wish, pods, family) for family in families(wish)}, zones or {}, slices)


class Stored:
    """Slices as a server would keep them."""

    def __init__(self) -> None:
        self.slices: dict[str, Object] = {}
        self.count = 0

    def carry_out(self, found: Plan) -> None:
        for each in found.create:
            self.count += 1
            each["metadata"]["name"] = f"s{self.count}"
        for each in (*found.create, *found.update):
            self.slices[each["metadata"]["name"]] = each
        for each in found.delete:
            del self.slices[each["metadata"]["name"]]

    def addresses(self) -> list[str]:
        return sorted(
            address
            for each in self.slices.values()
            for endpoint in each["endpoints"]
            for address in endpoint["addresses"]
        )


def test_conditions_follow_the_pod() -> None:
    pods = [
        pod("a", ip="10.0.0.1"),
        pod("b", ip="10.0.0.2", ready=False),
        pod("c", ip="10.0.0.3", deleting=True),
        pod("d", ip="10.0.0.4", phase="Failed"),
        pod("e"),
    ]
    (made,) = planned(service(), pods, [], {"n1": "z1"}).create
    shown = [
        tuple(endpoint["conditions"][name] for name in ("ready", "serving", "terminating"))
        for endpoint in made["endpoints"]
    ]
    assert shown == [(True, True, False), (False, False, False), (False, True, True)]
    assert made["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert (made["endpoints"][0]["nodeName"], made["endpoints"][0]["zone"]) == ("n1", "z1")
    assert made["metadata"]["labels"] == {
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }


def test_each_family_has_its_slices_and_nothing_is_told_by_a_placeholder() -> None:
    stored, wish = Stored(), service(families=("IPv4", "IPv6"))
    stored.carry_out(planned(wish, [], []))
    assert sorted(each["addressType"] for each in stored.slices.values()) == ["IPv4", "IPv6"]
    found = planned(wish, [pod("a", ips=("10.0.0.1", "fd00::1"))], list(stored.slices.values()))
    assert (len(found.create), len(found.update), len(found.delete)) == (0, 2, 0)
    stored.carry_out(found)
    assert stored.addresses() == ["10.0.0.1", "fd00::1"]


@given(rounds=st.lists(st.sets(st.integers(0, 350), max_size=300), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_slices_hold_exactly_the_pods_and_settle(rounds: list[set[int]]) -> None:
    stored, wish = Stored(), service()
    for numbers in rounds:
        pods = [pod(f"p{number}", ip=f"10.0.{number // 200}.{number % 200}") for number in sorted(numbers)]
        stored.carry_out(planned(wish, pods, list(stored.slices.values())))
        assert stored.addresses() == sorted(each["status"]["podIP"] for each in pods)
        assert all(len(each["endpoints"]) <= ENDPOINTS_MAX for each in stored.slices.values())
        assert planned(wish, pods, list(stored.slices.values())) == Plan()


def test_one_more_pod_changes_one_slice() -> None:
    stored, wish = Stored(), service()
    pods = [pod(f"p{number}", ip=f"10.0.1.{number}") for number in range(150)]
    stored.carry_out(planned(wish, pods, []))
    found = planned(wish, [*pods, pod("new", ip="10.0.2.1")], list(stored.slices.values()))
    assert (len(found.create), len(found.update), len(found.delete)) == (0, 1, 0)


def test_a_named_port_is_each_pods_own() -> None:
    named = service(ports=[{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}])

    def with_port(name: str, number: int) -> Object:
        made = pod(name, ip=f"10.0.0.{number}")
        made["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": number}]
        return made

    pods = [with_port("a", 81), with_port("b", 82), pod("c", ip="10.0.0.9")]
    assert [each["ports"] for each in planned(named, pods, []).create] == [
        [{"name": "http", "port": 81, "protocol": "TCP"}],
        [{"name": "http", "port": 82, "protocol": "TCP"}],
        [],
    ]
    assert ports_of(named, pods[2]) == ()


def test_headless_hostnames_hints_and_not_ready_addresses() -> None:
    headless = service(clusterIP="None", publishNotReadyAddresses=True, trafficDistribution="PreferSameZone")
    member = pod("db-0", ip="10.0.0.1", ready=False, hostname="db-0", subdomain="web")
    (made,) = planned(headless, [member], [], {"n1": "z1"}).create
    (endpoint,) = made["endpoints"]
    assert endpoint["hostname"] == "db-0"
    assert endpoint["conditions"]["ready"] is True
    assert endpoint["hints"] == {"forZones": [{"name": "z1"}]}
    assert made["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_endpoints_are_the_old_form_of_the_same() -> None:
    pods = [pod("b", ip="10.0.0.2"), pod("a", ip="10.0.0.1"), pod("c", ip="10.0.0.3", ready=False)]
    made: dict[str, Any] = endpoints_object(service(), backends(service(), pods, "IPv4"))
    (subset,) = made["subsets"]
    assert [address["ip"] for address in subset["addresses"]] == ["10.0.0.1", "10.0.0.2"]
    assert [address["ip"] for address in subset["notReadyAddresses"]] == ["10.0.0.3"]
    assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]


def test_services_are_found_by_the_labels_of_a_pod() -> None:
    assert list(service_index.by_first_pair(service(selector={"b": "1", "a": "2"}))) == ["shop/a=2"]
    assert list(service_index.by_first_pair(service(selector=None))) == []
    assert service_index.selects(service(), pod(labels={"app": "web", "x": "y"}))
    assert not service_index.selects(service(selector={}), pod())


def endpoints(*subsets: dict[str, Any], **labels: str) -> Object:
    described = {"name": "db", "namespace": "shop", "uid": "e", "labels": labels}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": described, "subsets": list(subsets)}


def test_endpoints_that_somebody_wrote_are_mirrored_by_family() -> None:
    subset = {"addresses": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 5432}]}
    wanted = endpointslicemirroring.wanted_slices(endpoints(subset, tier="db"))
    assert [(each["addressType"], each["endpoints"][0]["addresses"]) for each in wanted] == [
        ("IPv4", ["10.1.0.1"]),
        ("IPv6", ["fd00::1"]),
    ]
    assert wanted[0]["ports"] == [{"name": "", "protocol": "TCP", "port": 5432}]
    assert wanted[0]["metadata"]["labels"]["tier"] == "db"
    stored = [{**each, "metadata": {**each["metadata"], "name": str(number)}} for number, each in enumerate(wanted)]
    assert endpointslicemirroring.plan(wanted, stored) == endpointslicemirroring.Plan()
    changed = endpointslicemirroring.plan(wanted[:1], [{**stored[0], "endpoints": []}, stored[1]])
    assert ([each["metadata"]["name"] for each in changed.update], len(changed.delete)) == (["0"], 1)


def test_what_is_not_mirrored() -> None:
    without = service(selector=None)
    assert endpointslicemirroring.is_mirrored(endpoints(), without)
    assert not endpointslicemirroring.is_mirrored(endpoints(), service())
    assert not endpointslicemirroring.is_mirrored(endpoints(), None)
    skipped = endpoints()
    skipped["metadata"]["labels"] = {endpointslicemirroring.SKIP: "true"}
    assert not endpointslicemirroring.is_mirrored(skipped, without)
