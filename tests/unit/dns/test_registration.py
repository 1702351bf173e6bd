"""What stands behind kube-dns, and when it has to be put right."""

from __future__ import annotations

from pathlib import Path

from orchestrator.api import meta
from orchestrator.dns import registration, resolv
from orchestrator.dns.registration import differs, merged, wanted_service, wanted_slices

NODE = {"metadata": {"name": "worker-1", "uid": "u1"}}


def test_one_slice_a_family() -> None:
    slices = wanted_slices(NODE, ("172.29.0.3", "fd00:172:29::3"), 10053, is_ready=True)
    assert [meta.name(one) for one in slices] == ["kube-dns-worker-1", "kube-dns-worker-1-ipv6"]
    assert [one["addressType"] for one in slices] == ["IPv4", "IPv6"]
    assert slices[1]["endpoints"][0]["addresses"] == ["fd00:172:29::3"]
    assert meta.owner_references(slices[0])[0]["uid"] == "u1"


def test_service_asks_its_own_node() -> None:
    spec = wanted_service(("10.96.0.10", "fd00:10:96::a"), 10053)["spec"]
    assert spec["internalTrafficPolicy"] == "Local"
    assert spec["ipFamilies"] == ["IPv4", "IPv6"]
    assert "selector" not in spec


def test_what_the_server_adds_is_no_difference() -> None:
    wanted = wanted_service(("10.96.0.10",), 10053)
    actual = merged(wanted, {"metadata": {"resourceVersion": "7"}, "spec": {"sessionAffinity": "None"}})
    assert not differs(actual, wanted)
    broken = merged(actual, {"spec": {"internalTrafficPolicy": "Cluster"}})
    assert differs(broken, wanted)
    repaired = merged(broken, wanted)
    assert not differs(repaired, wanted)
    assert repaired["spec"]["sessionAffinity"] == "None"


def test_slices_share_the_services_label() -> None:
    for one in wanted_slices(NODE, ("172.29.0.3",), 10053, is_ready=False):
        assert meta.labels(one)[registration.SERVICE_LABEL] == "kube-dns"
        assert one["endpoints"][0]["conditions"]["ready"] is False


def test_resolv_conf(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search a b\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\n# nameserver 1.1.1.1\nnameserver x\n")
    assert resolv.name_servers(file) == ("10.0.0.2", "fe80::1%eth0")
    assert resolv.name_servers(tmp_path / "missing") == ()
