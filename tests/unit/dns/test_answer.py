"""Answers as a client reads them: our encoder against dnslib's decoder."""

from __future__ import annotations

from typing import Any

import dnslib
import pytest

from orchestrator.dns import message
from orchestrator.dns.answer import Alias, Forward, answer
from orchestrator.dns.records import service_names
from orchestrator.dns.zone import Zone

DOMAIN = "cluster.local"


def service(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def endpoints(*entries: dict[str, Any], ports: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"endpoints": list(entries), "ports": ports or []}


def zone() -> Zone:
    made = Zone(DOMAIN, ("10.96.0.10", "fd00:10:96::a"))
    made.set_namespace("default", exists=True)
    https = [{"name": "https", "protocol": "TCP", "port": 443}]
    both = service("web", clusterIPs=["10.96.0.7", "fd00:10:96::7"], ports=[*https, {"port": 80}])
    made.put("default/web", service_names(both, [], DOMAIN))
    made.put(
        "default/kubernetes", service_names(service("kubernetes", clusterIPs=["10.96.0.1"], ports=https), [], DOMAIN)
    )
    db = endpoints(
        {"addresses": ["10.244.1.5"], "hostname": "db-0", "conditions": {"ready": True}},
        {"addresses": ["10.244.2.6"], "conditions": {}},
        {"addresses": ["10.244.2.7"], "hostname": "db-2", "conditions": {"ready": False}},
        ports=[{"name": "sql", "protocol": "TCP", "port": 5432}],
    )
    db6 = endpoints({"addresses": ["fd00:10:244:1::5"], "hostname": "db-0", "conditions": {"ready": True}})
    made.put("default/db", service_names(service("db", clusterIP="None"), [db, db6], DOMAIN))
    made.put("default/empty", service_names(service("empty", clusterIP="None"), [], DOMAIN))
    made.put(
        "default/out", service_names(service("out", type="ExternalName", externalName="www.Example.com"), [], DOMAIN)
    )
    inside = service("in", type="ExternalName", externalName="web.default.svc.cluster.local")
    made.put("default/in", service_names(inside, [], DOMAIN))
    return made


def ask(name: str, kind: str = "A", limit: int = 0) -> dnslib.DNSRecord:
    query = message.read_query(dnslib.DNSRecord.question(name, kind).pack())
    decided = answer(zone(), query)
    assert isinstance(decided, message.Answer)
    return dnslib.DNSRecord.parse(message.write_response(query, decided, limit or message.TCP_BYTES))


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        pytest.param("web.default.svc.cluster.local", "A", ["10.96.0.7"], id="cluster-ip"),
        pytest.param("WEB.default.svc.CLUSTER.local", "A", ["10.96.0.7"], id="case-does-not-matter"),
        pytest.param("web.default.svc.cluster.local", "AAAA", ["fd00:10:96::7"], id="cluster-ip-of-the-other-family"),
        pytest.param("kubernetes.default.svc.cluster.local", "A", ["10.96.0.1"], id="kubernetes"),
        pytest.param(
            "_https._tcp.web.default.svc.cluster.local", "SRV", ["0 100 443 web.default.svc.cluster.local."], id="srv"
        ),
        pytest.param("7.0.96.10.in-addr.arpa", "PTR", ["web.default.svc.cluster.local."], id="reverse"),
        pytest.param("db.default.svc.cluster.local", "A", ["10.244.1.5", "10.244.2.6"], id="headless-lists-ready-ones"),
        pytest.param("db-0.db.default.svc.cluster.local", "A", ["10.244.1.5"], id="endpoint-by-hostname"),
        pytest.param("db-0.db.default.svc.cluster.local", "AAAA", ["fd00:10:244:1::5"], id="endpoint-of-ipv6"),
        pytest.param("10-244-2-6.db.default.svc.cluster.local", "A", ["10.244.2.6"], id="endpoint-by-address"),
        pytest.param(
            "_sql._tcp.db.default.svc.cluster.local",
            "SRV",
            ["0 50 5432 10-244-2-6.db.default.svc.cluster.local.", "0 50 5432 db-0.db.default.svc.cluster.local."],
            id="headless-srv-per-endpoint",
        ),
        pytest.param("5.1.244.10.in-addr.arpa", "PTR", ["db-0.db.default.svc.cluster.local."], id="reverse-endpoint"),
        pytest.param("10-244-1-9.default.pod.cluster.local", "A", ["10.244.1.9"], id="pod"),
        pytest.param("fd00-10-244--5.default.pod.cluster.local", "AAAA", ["fd00:10:244::5"], id="pod-of-ipv6"),
        pytest.param("dns-version.cluster.local", "TXT", ['"1.1.0"'], id="schema-version"),
        pytest.param("ns.dns.cluster.local", "A", ["10.96.0.10"], id="name-server"),
        pytest.param(
            "in.default.svc.cluster.local", "A", ["10.96.0.7", "web.default.svc.cluster.local."], id="alias-in-the-zone"
        ),
        pytest.param("out.default.svc.cluster.local", "CNAME", ["www.example.com."], id="external-name"),
    ],
)
def test_records(name: str, kind: str, expected: list[str]) -> None:
    response = ask(name, kind)
    assert response.header.get_rcode() == 0
    assert response.header.aa == 1
    assert sorted(str(record.rdata) for record in response.rr) == expected


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        pytest.param("nothing.default.svc.cluster.local", "A", "NXDOMAIN", id="no-such-service"),
        pytest.param("web.default.svc.cluster.local.default.svc.cluster.local", "A", "NXDOMAIN", id="search-path"),
        pytest.param("empty.default.svc.cluster.local", "A", "NXDOMAIN", id="headless-without-ready-endpoints"),
        pytest.param("db-2.db.default.svc.cluster.local", "A", "NXDOMAIN", id="endpoint-not-ready"),
        pytest.param("kubernetes.default.svc.cluster.local", "AAAA", "NOERROR", id="other-family-is-nodata"),
        pytest.param("web.default.svc.cluster.local", "MX", "NOERROR", id="other-type-is-nodata"),
        pytest.param("_tcp.web.default.svc.cluster.local", "A", "NOERROR", id="between-names-exists"),
        pytest.param("default.svc.cluster.local", "A", "NOERROR", id="namespace-exists"),
        pytest.param("other.svc.cluster.local", "A", "NXDOMAIN", id="namespace-does-not-exist"),
        pytest.param("10-0-0-1.other.pod.cluster.local", "A", "NXDOMAIN", id="pod-in-no-namespace"),
        pytest.param("300-0-0-1.default.pod.cluster.local", "A", "NXDOMAIN", id="pod-with-no-address"),
    ],
)
def test_negative_answers_carry_the_authority(name: str, kind: str, code: str) -> None:
    response = ask(name, kind)
    assert dnslib.RCODE[response.header.get_rcode()] == code
    assert response.rr == []
    assert [str(record.rname) for record in response.auth] == ["cluster.local."]
    assert response.auth[0].ttl == response.auth[0].rdata.times[4] == 5


def test_srv_brings_the_addresses_along() -> None:
    response = ask("_sql._tcp.db.default.svc.cluster.local", "SRV")
    assert sorted(str(record.rdata) for record in response.ar) == ["10.244.1.5", "10.244.2.6", "fd00:10:244:1::5"]


@pytest.mark.parametrize("name", ["example.com", "9.9.9.9.in-addr.arpa", "cluster.local.example.com"])
def test_other_names_go_upstream(name: str) -> None:
    query = message.read_query(dnslib.DNSRecord.question(name).pack())
    assert answer(zone(), query) == Forward()


def test_alias_out_of_the_zone_names_its_target() -> None:
    decided = answer(zone(), message.read_query(dnslib.DNSRecord.question("out.default.svc.cluster.local").pack()))
    assert isinstance(decided, Alias)
    assert decided.target == "www.example.com"


def test_slices_of_names_give_none() -> None:
    named = endpoints({"addresses": ["www.example.com"]}) | {"addressType": "FQDN"}
    assert service_names(service("db", clusterIP="None"), [named], DOMAIN) == {}


def test_a_service_that_goes_takes_its_names_along() -> None:
    made = zone()
    serial = made.serial
    assert made.put("default/db", {})
    assert made.find("db.default.svc.cluster.local") is None
    assert made.find("5.1.244.10.in-addr.arpa") is None
    assert made.serial == serial + 1
    assert not made.put("default/db", {})


def test_two_services_share_a_reverse_name() -> None:
    made = zone()
    twin = endpoints({"addresses": ["10.244.1.5"], "hostname": "db-0"})
    made.put("default/twin", service_names(service("twin", clusterIP="None"), [twin], DOMAIN))
    names = {message.read_name(record.data) for record in (made.find("5.1.244.10.in-addr.arpa") or {})[message.PTR]}
    assert names == {"db-0.db.default.svc.cluster.local", "db-0.twin.default.svc.cluster.local"}
    made.put("default/db", {})
    assert len((made.find("5.1.244.10.in-addr.arpa") or {})[message.PTR]) == 1
