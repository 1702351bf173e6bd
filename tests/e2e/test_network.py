"""Services and DNS over both families, seen from pods, nodes and the host."""

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.lab import WITHIN, Lab, eventually
from tests.e2e.manifests import ECHO, client, deployment, dump, service

DUAL = {"ipFamilyPolicy": "RequireDualStack"}


@pytest.fixture
def echo(kubectl: Callable[..., str]) -> dict[str, Any]:
    """Two echo pods behind a dual-stack NodePort Service, and a client; returns the Service."""
    kubectl(
        "apply", "-f", "-",
        stdin=deployment("echo", ECHO, replicas=2) + service("echo", 80, 8080, type="NodePort", **DUAL) + client(),
    )  # fmt: skip
    kubectl("rollout", "status", "deployment/echo", WITHIN)
    kubectl("wait", "pod/client", "--for=condition=Ready", WITHIN)
    found: dict[str, Any] = json.loads(kubectl("get", "service", "echo", "-o", "json"))
    return found


def test_a_service_answers_over_both_families(kubectl: Callable[..., str], echo: dict[str, Any]) -> None:
    v4, v6 = echo["spec"]["clusterIPs"]
    assert (":" in v4, ":" in v6) == (False, True)
    for address in (v4, f"[{v6}]"):
        eventually(
            lambda address=address: "echo-" in kubectl("exec", "client", "--", "wget", "-qO-", f"http://{address}/"),
            f"an answer on {address}",
        )


def test_every_pod_has_an_address_of_each_family(kubectl: Callable[..., str], echo: dict[str, Any]) -> None:
    pods = json.loads(kubectl("get", "pods", "-l", "app=echo", "-o", "json"))["items"]
    for pod in pods:
        v4, v6 = [entry["ip"] for entry in pod["status"]["podIPs"]]
        for address in (v4, f"[{v6}]"):
            answer = kubectl("exec", "client", "--", "wget", "-qO-", f"http://{address}:8080/")
            assert pod["metadata"]["name"] in answer


def test_a_node_port_answers_on_every_node_from_the_host(lab: Lab, echo: dict[str, Any]) -> None:
    port = echo["spec"]["ports"][0]["nodePort"]
    for node in lab.json("get", "nodes")["items"]:
        for entry in node["status"]["addresses"]:
            if entry["type"] == "InternalIP":
                eventually(lambda address=entry["address"]: b"echo-" in http(address, port), f"{entry} port {port}")


def http(address: str, port: int) -> bytes:
    try:
        with socket.create_connection((address, port), timeout=3) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.makefile("rb").read()
    except OSError as error:
        raise ConnectionError(str(error)) from error


def test_names(kubectl: Callable[..., str], echo: dict[str, Any], namespace: str) -> None:
    v4, v6 = echo["spec"]["clusterIPs"]
    kubectl(
        "apply", "-f", "-", stdin=dump("v1", "Service", "out", spec={"type": "ExternalName", "externalName": "echo"})
    )
    kubectl("apply", "-f", "-", stdin=service("bare", 80, 8080, clusterIP="None", selector={"app": "echo"}, **DUAL))

    def look(name: str, kind: str = "a") -> str:
        return kubectl("exec", "client", "--", "nslookup", f"-type={kind}", name, check=False)

    full = f"echo.{namespace}.svc.cluster.local"
    eventually(lambda: v4 in look(full), "the A record")
    assert v6 in look(full, "aaaa")
    pods = json.loads(kubectl("get", "pods", "-l", "app=echo", "-o", "json"))["items"]
    addresses = {pod["status"]["podIP"] for pod in pods}
    eventually(lambda: all(ip in look(f"bare.{namespace}.svc.cluster.local") for ip in addresses), "headless records")
    assert "NXDOMAIN" in look(f"nobody.{namespace}.svc.cluster.local")
    assert full in look(".".join(reversed(v4.split("."))) + ".in-addr.arpa", "ptr")


def test_session_affinity(kubectl: Callable[..., str], echo: dict[str, Any]) -> None:
    kubectl("patch", "service", "echo", "-p", '{"spec": {"sessionAffinity": "ClientIP"}}')

    def asked() -> set[str]:
        answers = [kubectl("exec", "client", "--", "wget", "-qO-", "http://echo/") for _ in range(8)]
        return {json.loads(answer)["pod"] for answer in answers}

    eventually(lambda: len(asked()) == 1, "one pod for one client")


def test_a_service_without_endpoints_refuses(kubectl: Callable[..., str], echo: dict[str, Any]) -> None:
    kubectl("scale", "deployment/echo", "--replicas=0")
    eventually(
        lambda: "refused" in kubectl("exec", "client", "--", "wget", "-T", "5", "-qO-", "http://echo/", check=False),
        "refused at once",
    )
