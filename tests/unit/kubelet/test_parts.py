"""The small decisions of the kubelet: limits, /etc files, security, back-off, admission, last words, image names."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from orchestrator.kubelet import admission, backoff, etcfiles, grpchealth, images, limits, podspec, securitycontext
from orchestrator.kubelet import termination as last_words
from orchestrator.kubelet.backoff import Backoff
from orchestrator.kubelet.dirs import PodDirs
from orchestrator.kubelet.etcfiles import Resolver
from orchestrator.kubelet.node import logrotation
from orchestrator.kubelet.node.garbage import images_to_remove
from orchestrator.kubelet.runtime.interface import ContainerState, Image, State
from orchestrator.kubelet.runtime.slots import Slots
from orchestrator.kubelet.securitycontext import SecurityError


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}


def resources(requests: dict[str, str] | None = None, limit: dict[str, str] | None = None) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": requests or {}, "limits": limit or {}}}


@pytest.mark.parametrize(
    ("container", "quality"),
    [
        pytest.param(resources(), "BestEffort", id="asks-for-nothing"),
        pytest.param(resources({"cpu": "1"}), "Burstable", id="asks-without-limit"),
        pytest.param(resources(limit={"cpu": "1", "memory": "1Gi"}), "Guaranteed", id="limits-stand-for-requests"),
        pytest.param(resources({"cpu": "500m"}, {"cpu": "1", "memory": "1Gi"}), "Burstable", id="less-than-its-limit"),
        pytest.param(resources(limit={"cpu": "1"}), "Burstable", id="one-of-two"),
    ],
)
def test_quality_of_service(container: dict[str, Any], quality: str) -> None:
    assert podspec.qos_class(pod(containers=[container])) == quality


def test_requests_of_a_pod_are_the_larger_of_start_and_run() -> None:
    sidecar = {**resources({"cpu": "1"}), "restartPolicy": "Always"}
    found = podspec.pod_requests(
        pod(
            containers=[resources({"cpu": "2"})],
            initContainers=[sidecar, resources({"cpu": "4"})],
            overhead={"cpu": "1"},
        )
    )
    assert found["cpu"] == 6  # sidecar and init container together, then overhead


def test_limits_of_a_container() -> None:
    found = limits.container_limits(pod(), resources({"cpu": "250m"}, {"cpu": "500m", "memory": "64Mi"}), 100)
    assert (found.memory_bytes, found.cpu_quota_us, found.cpu_shares, found.pids) == (64 * 2**20, 50_000, 256, 100)
    assert limits.container_limits(pod(), {"name": "c"}, 0).cpu_shares == 2


def test_hosts() -> None:
    text = etcfiles.hosts(
        pod(hostname="web-0", subdomain="web", hostAliases=[{"ip": "1.1.1.1", "hostnames": ["a", "b"]}]),
        ("10.0.0.2",),
        "cluster.local",
    )
    assert "10.0.0.2\tweb-0.web.ns.svc.cluster.local\tweb-0\n" in text
    assert text.endswith("# Entries added by HostAliases.\n1.1.1.1\ta\tb\n")


NODE_RESOLVER = Resolver(("9.9.9.9",), ("corp.example",), ())
DNS = ["10.96.0.10"]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            {},
            "search ns.svc.cluster.local svc.cluster.local cluster.local corp.example\n"
            "nameserver 10.96.0.10\noptions ndots:5\n",
        ),
        ({"dnsPolicy": "Default"}, "search corp.example\nnameserver 9.9.9.9\n"),
        ({"hostNetwork": True}, "search corp.example\nnameserver 9.9.9.9\n"),
        (
            {
                "dnsPolicy": "None",
                "dnsConfig": {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]},
            },
            "nameserver 1.1.1.1\noptions ndots:2\n",
        ),
        ({"dnsPolicy": "None"}, ""),
    ],
)
def test_resolver(spec: dict[str, Any], text: str) -> None:
    assert etcfiles.resolver(pod(**spec), NODE_RESOLVER, DNS, "cluster.local").text() == text


def test_a_resolv_conf_is_read() -> None:
    text = "# a comment\nsearch a b\nnameserver 1.1.1.1\nnameserver fd00::1\noptions edns0 timeout:1\n"
    assert etcfiles.parse_resolver(text) == Resolver(("1.1.1.1", "fd00::1"), ("a", "b"), ("edns0", "timeout:1"))


def test_the_container_decides_over_the_pod() -> None:
    context = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000]}
    own = {"runAsUser": 7, "capabilities": {"drop": ["ALL"], "add": ["net_admin"]}, "allowPrivilegeEscalation": False}
    found = securitycontext.of_container(
        pod(securityContext=context), {"name": "c", "securityContext": own}, "", Path("/s")
    )
    assert (found.user, found.groups) == ("7:3000", ("4000", "2000"))
    assert (found.capabilities_drop, found.capabilities_add) == (("ALL",), ("CAP_NET_ADMIN",))
    assert found.no_new_privileges
    assert found.seccomp_profile == "unconfined"


@pytest.mark.parametrize(
    ("own", "image_user", "message"),
    [
        ({"runAsNonRoot": True}, "", "image will run as root"),
        ({"runAsNonRoot": True}, "web", "non-numeric user"),
        ({"runAsNonRoot": True, "runAsUser": 0}, "", "breaks non-root policy"),
    ],
)
def test_root_is_refused(own: dict[str, Any], image_user: str, message: str) -> None:
    with pytest.raises(SecurityError, match=message):
        securitycontext.of_container(pod(), {"name": "c", "securityContext": own}, image_user, Path("/s"))


def test_back_off_doubles_and_forgets() -> None:
    found = Backoff()
    assert found.until("k", 100) == 100
    for at, delay in ((100, 10), (120, 20), (150, 40), (200, 80), (300, 160), (500, 300), (900, 300)):
        found.next("k", at)
        assert found.until("k", at + 1) == at + 1 + delay
    assert found.until("k", 900 + 601) == 900 + 601
    assert [backoff.shown(seconds) for seconds in (10, 80, 300)] == ["10s", "1m20s", "5m0s"]


NODE = {
    "metadata": {"name": "n1", "labels": {"disk": "ssd", "cores": "8"}},
    "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}},
}
PORT = {"name": "c", "ports": [{"hostPort": 80, "containerPort": 80}]}


def affinity(**rule: Any) -> dict[str, Any]:
    terms = [{"matchExpressions": [rule]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


@pytest.mark.parametrize(
    ("spec", "others", "reason"),
    [
        pytest.param({"containers": [resources({"cpu": "2"})]}, [], None, id="fits-exactly"),
        pytest.param({"containers": [resources({"cpu": "2001m"})]}, [], "OutOfcpu", id="too-much-cpu"),
        pytest.param(
            {"containers": [resources({"memory": "600Mi"})]}, [{"containers": [resources({"memory": "600Mi"})]}],
            "OutOfmemory", id="others-count",
        ),
        pytest.param({}, [{}, {}, {}], "OutOfpods", id="too-many-pods"),
        pytest.param({"containers": [PORT]}, [{"containers": [PORT]}], "NodePorts", id="port-taken"),
        pytest.param({"nodeSelector": {"disk": "hdd"}}, [], "NodeAffinity", id="other-disk"),
        pytest.param({"os": {"name": "windows"}}, [], "PodOSNotSupported", id="another-system"),
        pytest.param({"os": {"name": "linux"}}, [], None, id="this-system"),
        pytest.param({"affinity": affinity(key="cores", operator="Gt", values=["4"])}, [], None, id="enough-cores"),
        pytest.param(
            {"affinity": affinity(key="disk", operator="NotIn", values=["ssd"])}, [], "NodeAffinity", id="not-in"
        ),
    ],
)  # fmt: skip
def test_admission(spec: dict[str, Any], others: list[dict[str, Any]], reason: str | None) -> None:
    refusal = admission.admit(pod(**spec), NODE, [pod(**other) for other in others])
    assert (refusal.reason if refusal else None) == reason


def test_last_words(tmp_path: Path) -> None:
    dirs = PodDirs(tmp_path / "pod", tmp_path / "logs")
    state = ContainerState(id="i", name="c", kind="app", state=State.EXITED, exit_code=1)
    dirs.container("c").mkdir(parents=True)
    dirs.log("c", 0).parent.mkdir(parents=True)
    dirs.log("c", 0).write_text("2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stderr F two words\n")
    assert last_words.message_of({"name": "c"}, state, dirs) == ""
    falls_back = {"name": "c", "terminationMessagePolicy": "FallbackToLogsOnError"}
    assert last_words.message_of(falls_back, state, dirs) == "one\ntwo words"
    dirs.termination_log("c", 0).write_text("x" * 5000)
    assert len(last_words.message_of(falls_back, state, dirs)) == 4096


@pytest.mark.parametrize(
    ("name", "policy", "registry"),
    [
        ("nginx", "Always", "docker.io"),
        ("nginx:latest", "Always", "docker.io"),
        ("nginx:1", "IfNotPresent", "docker.io"),
        ("images.example/a/b@sha256:00", "IfNotPresent", "images.example"),
        ("localhost:5000/a", "Always", "localhost:5000"),
    ],
)
def test_image_names(name: str, policy: str, registry: str) -> None:
    assert images.default_policy(name) == policy
    assert images.registry_of(name) == registry


def test_the_longest_unused_images_go_first() -> None:
    found = [Image(id=name, size_bytes=10) for name in ("used", "old", "new")]
    chosen = images_to_remove(found, ["used"], {"old": 1, "new": 2}, 5)
    assert [image.id for image in chosen] == ["old"]
    assert [image.id for image in images_to_remove(found, ["used"], {}, 100)] == ["new", "old"]


async def test_who_is_nearest_to_the_end_goes_first() -> None:
    slots, order = Slots(1), []

    async def work(rank: int) -> None:
        async with slots.slot(rank):
            order.append(rank)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(rank) for rank in (9, 2, 1, 0)))
    assert order == [9, 0, 1, 2]


async def test_grpc_health_is_asked_and_understood() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readexactly(len(grpchealth.request("127.0.0.1:0000", "db")))
        assert b"/grpc.health.v1.Health/Check" in asked
        message = b"\x00\x00\x00\x00\x02\x08\x02"  # status: NOT_SERVING
        for kind, flags, stream, payload in ((4, 0, 0, b""), (1, 4, 1, b"\x88"), (0, 0, 1, message)):
            writer.write(len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload)
        await writer.drain()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await grpchealth.check("127.0.0.1", port, "db") == "NOT_SERVING"


def test_which_logs_are_rotated_and_which_go(tmp_path: Path) -> None:
    folder = tmp_path / "ns_p_uid-1" / "c"
    folder.mkdir(parents=True)
    (folder / "1.log").write_bytes(b"x" * 11)
    (folder / "0.log").write_bytes(b"x" * 9)
    (folder / "1.log.20260101").write_bytes(b"x" * 99)
    assert list(logrotation.too_large(tmp_path, 10)) == [("uid-1", "c", 1, folder / "1.log")]
    rotated = [Path(f"1.log.{day}") for day in ("3", "1", "2")]
    assert logrotation.surplus(rotated, 3) == [Path("1.log.1")]
