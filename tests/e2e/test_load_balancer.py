"""Services of type LoadBalancer from the host: both families, changes, a node that dies, what is left of it all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab import Lab, eventually
from tests.e2e.manifests import ECHO, deployment, service

DUAL = {"type": "LoadBalancer", "ipFamilyPolicy": "RequireDualStack"}
NODE_NAME = {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
ONE_EACH = {
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": {"matchLabels": {"app": "echo"}}, "topologyKey": "kubernetes.io/hostname"}
            ]
        }
    }
}


def ask(address: str, port: int = 80) -> dict[str, Any] | None:
    """Which pod answers whom; None where nobody does."""
    try:
        with socket.create_connection((address, port), timeout=3) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = connection.makefile("rb").read()
    except OSError:
        return None
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2] or b"null")
    return found


def say(address: str, port: int) -> dict[str, Any] | None:
    """The same by datagram."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        try:
            client.connect((address, port))
            client.send(b"hello\n")
            found: dict[str, Any] = json.loads(client.recv(4096))
            return found
        except OSError:
            return None


@pytest.fixture
def echo(kubectl: Callable[..., str]) -> None:
    """Two echo pods on two nodes."""
    container = {**ECHO, "env": [NODE_NAME]}
    kubectl("apply", "-f", "-", stdin=deployment("echo", container, replicas=2, pod=ONE_EACH))
    kubectl("rollout", "status", "deployment/echo", "--timeout=90s")


def addresses(kubectl: Callable[..., str], name: str = "echo", count: int = 2) -> list[str]:
    def look() -> list[str]:
        told = json.loads(kubectl("get", "service", name, "-o", "json"))["status"]["loadBalancer"].get("ingress") or []
        return [entry["ip"] for entry in told] if len(told) == count else []

    found: list[str] = eventually(look, f"{count} addresses of service {name}")
    return found


def test_it_answers_on_both_families_changes_and_goes(kubectl: Callable[..., str], echo: None) -> None:
    kubectl("apply", "-f", "-", stdin=service("echo", 80, 8080, **DUAL))
    v4, v6 = addresses(kubectl)
    for address in (v4, v6):
        pods = {answer["pod"] for _ in range(40) if (answer := eventually(lambda vip=address: ask(vip), address))}
        assert len(pods) == 2, f"{address} reaches both pods"
        assert ask(address, 81) is None

    ports = [
        {"name": "web", "port": 8000, "targetPort": 8080},
        {"name": "talk", "port": 8000, "targetPort": 8080, "protocol": "UDP"},
    ]
    kubectl("patch", "service", "echo", "--type=merge", "-p", json.dumps({"spec": {"ports": ports}}))
    for address in (v4, v6):
        eventually(lambda vip=address: ask(vip, 8000), f"the new port of {address}")
        eventually(lambda vip=address: say(vip, 8000), f"datagrams to {address}")
        assert ask(address) is None, "the old port is gone"

    kubectl("delete", "service", "echo", "--timeout=30s")
    for address in (v4, v6):
        assert ask(address, 8000) is None


def test_a_second_family_comes_and_goes(kubectl: Callable[..., str], echo: None) -> None:
    kubectl("apply", "-f", "-", stdin=service("echo", 80, 8080, type="LoadBalancer", ipFamilyPolicy="SingleStack"))
    (first,) = addresses(kubectl, count=1)
    kubectl("patch", "service", "echo", "--type=merge", "-p", '{"spec": {"ipFamilyPolicy": "RequireDualStack"}}')
    both = addresses(kubectl)
    assert both[0] == first
    assert all(eventually(lambda vip=address: ask(vip), address) for address in both)
    kubectl("patch", "service", "echo", "--type=merge", "-p", '{"spec": {"ipFamilyPolicy": "SingleStack"}}')
    assert addresses(kubectl, count=1) == [first]
    assert eventually(lambda: ask(first), first)
    assert ask(both[1]) is None


@pytest.mark.parametrize("other", ["ClusterIP", "NodePort", "ExternalName"])
def test_another_type_and_back(kubectl: Callable[..., str], echo: None, other: str) -> None:
    kubectl("apply", "-f", "-", stdin=service("echo", 80, 8080, type="LoadBalancer"))
    (address,) = addresses(kubectl, count=1)
    eventually(lambda: ask(address), "an answer")
    spec = {"type": other} | ({"externalName": "example.com"} if other == "ExternalName" else {})
    kubectl("patch", "service", "echo", "--type=merge", "-p", json.dumps({"spec": spec}))
    eventually(lambda: ask(address) is None, "the address is gone")

    def is_clean() -> bool:
        found = json.loads(kubectl("get", "service", "echo", "-o", "json"))
        return not found["metadata"].get("finalizers") and not found["status"]["loadBalancer"]

    eventually(is_clean, "no trace in the service")
    back = {"spec": {"type": "LoadBalancer", "externalName": None}}
    kubectl("patch", "service", "echo", "--type=merge", "-p", json.dumps(back))
    (again,) = addresses(kubectl, count=1)
    eventually(lambda: ask(again), "an answer again")


def test_with_policy_local_a_node_that_dies_is_missed_for_seconds(
    kubectl: Callable[..., str], echo: None, lab: Lab
) -> None:
    kubectl("apply", "-f", "-", stdin=service("echo", 80, 8080, externalTrafficPolicy="Local", **DUAL))
    v4, v6 = addresses(kubectl)
    for address in (v4, v6):
        # A node takes part once its own health check has passed, which the other's may have before.
        nodes = eventually(lambda vip=address: both(nodes_behind(vip)), address)
        client = eventually(lambda vip=address: ask(vip), address)["client"]
        assert client in own_addresses(), "pods see who asks"
    victim = sorted(nodes)[0]
    lab.sampan("fault", "kill-node", victim, "--name", lab.name)
    try:
        for address in (v4, v6):
            eventually(
                lambda vip=address: all((ask(vip) or {}).get("node") not in (None, victim) for _ in range(10)),
                f"{address} without {victim}",
                timeout_s=15,
            )
        taints = f"jsonpath={{.spec.taints[?(@.key=='{SHUTDOWN}')].effect}}"
        eventually(lambda: lab.kubectl("get", "node", victim, "-o", taints) == "NoSchedule", "the node is tainted")
    finally:
        lab.sampan("fault", "heal", "--name", lab.name)
    eventually(lambda: lab.kubectl("wait", "nodes", "--all", "--for=condition=Ready", "--timeout=5s"), "nodes Ready")
    eventually(lambda: lab.kubectl("get", "node", victim, "-o", taints) == "", "the taint is gone")
    eventually(lambda: {(ask(v4) or {}).get("node") for _ in range(20)} == nodes, "both nodes again")


def nodes_behind(address: str) -> set[str]:
    return {answer["node"] for _ in range(40) if (answer := ask(address))}


def both(nodes: set[str]) -> set[str]:
    return nodes if len(nodes) == 2 else set()


SHUTDOWN = "node.cloudprovider.kubernetes.io/shutdown"


def own_addresses() -> set[str]:
    listed = json.loads(subprocess.run(["ip", "-j", "address"], check=True, capture_output=True, text=True).stdout)
    return {entry["local"] for link in listed for entry in link.get("addr_info", ())}


def test_it_outlives_its_controller_and_keeps_its_address(kubectl: Callable[..., str], echo: None, lab: Lab) -> None:
    kubectl("apply", "-f", "-", stdin=service("echo", 80, 8080, **DUAL))
    before = addresses(kubectl)
    eventually(lambda: all(ask(address) for address in before), "answers")
    where = ("--node", "host", "--name", lab.name)
    lab.sampan("fault", "stop-component", "cloud-controller", *where)
    try:
        assert all(ask(address) for address in before), "the kernel goes on without it"
        kubectl("apply", "-f", "-", stdin=service("late", 80, 8080, type="LoadBalancer", selector={"app": "echo"}))
    finally:
        lab.sampan("fault", "heal", "--name", lab.name)
    (late,) = addresses(kubectl, "late", count=1)
    assert addresses(kubectl) == before and late not in before
    assert all(eventually(lambda vip=address: ask(vip), address) for address in (*before, late))


def test_the_host_reaches_pods_and_nodes_say_so(lab: Lab, kubectl: Callable[..., str], echo: None) -> None:
    for pod in json.loads(kubectl("get", "pods", "-l", "app=echo", "-o", "json"))["items"]:
        for entry in pod["status"]["podIPs"]:
            answer = eventually(lambda address=entry["ip"]: ask(address, 8080), f"pod address {entry['ip']}")
            assert answer["pod"] == pod["metadata"]["name"]
    for node in lab.json("get", "nodes")["items"]:
        told = {condition["type"]: condition for condition in node["status"]["conditions"]}
        assert told["NetworkUnavailable"]["status"] == "False", node["metadata"]["name"]
        labels = node["metadata"]["labels"]
        assert labels["topology.kubernetes.io/zone"] and labels["node.kubernetes.io/instance-type"]
        assert node["spec"]["providerID"] == f"sampan://{lab.name}/{node['metadata']['name']}"


def test_fewer_workers_take_their_nodes_along_and_down_takes_the_rest(lab: Lab, tmp_path: Path) -> None:
    name = f"lb{os.getpid()}"
    small = Lab(name, tmp_path / "kubeconfig")

    def up(workers: int) -> None:
        small.sampan("up", "--name", name, "--workers", str(workers), "--kubeconfig", str(small.kubeconfig))

    try:
        up(1)
        small.kubectl("create", "service", "loadbalancer", "web", "--tcp=80:80")
        (address,) = addresses(small.kubectl, "web", count=1)
        status = json.loads(small.sampan("status", "--name", name, "-o", "json"))
        shown = [one for one in status["components"] if one["name"] == "cloud-controller"]
        assert [(one["node"], one["state"]) for one in shown] == [("host", "running")]
        bridge = next(link for link in links() if address in json.dumps(link))["ifname"]
        index = bridge.removeprefix("sampan")
        up(0)
        eventually(lambda: small.nodes() == ["control-plane-1"], "the Node of a worker that is gone goes")
    finally:
        small.sampan("down", "--name", name)
    assert bridge not in [link["ifname"] for link in links()]
    tables = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout.split()
    assert f"sampan-cloud-{index}" not in tables
    for family in ("-4", "-6"):
        command = ["ip", family, "route", "show", "proto", "84"]
        routes = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert bridge not in routes.split()


def links() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        subprocess.run(["ip", "-j", "address"], check=True, capture_output=True, text=True).stdout
    )
    return found
