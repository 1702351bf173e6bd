"""What a verb accepts: every argument is checked against the pod before anything is done."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.porter import beneath
from orchestrator.porter.cgroups import Limits, parse_hierarchies, writes
from orchestrator.porter.cni import default_list, load_list
from orchestrator.porter.mounts import Mount, check, parse_mountinfo
from orchestrator.porter.network import Attach
from orchestrator.porter.pods import Pods, static_key, uids_of
from orchestrator.porter.processes import IdMap, parse_subordinate
from orchestrator.porter.verbs import Answer, PodArguments, PorterError, Verb

IDS = IdMap(1000, 1000, 100000, 65536, 200000, 10)


class OnePod:
    """A cache that holds one pod."""

    def __init__(self, pod: dict[str, Any]) -> None:
        self.pod = pod

    def by_index(self, index: str, value: str) -> list[dict[str, Any]]:
        return [self.pod] if index == "uid" and value in uids_of(self.pod) else []


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        ({"uid": "../x"}, "uid"),
        ({"uid": "a", "namespace": "d", "name": "p", "pid": "1"}, "pid"),
        ({"uid": "a", "namespace": "d", "name": "p", "pid": 1, "extra": 1}, "unknown field `extra`"),
        ({"uid": "a", "namespace": "d", "name": "p", "pid": 1, "ports": [{"hostPort": 1}]}, "containerPort"),
    ],
)
async def test_arguments_are_strict(request_: dict[str, Any], fault: str) -> None:
    async def act(_: Attach) -> Answer:
        raise AssertionError("must not be reached")

    with pytest.raises(PorterError, match=fault):
        await Verb(Attach, act).run(request_)


async def test_a_pod_of_another_node_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.porter.pods.WAIT_MAX_S", 0.01)
    pods = Pods(OnePod({"metadata": {"uid": "a"}}), "n1", None)
    assert (await pods.require(PodArguments(uid="a")))["metadata"]["uid"] == "a"
    with pytest.raises(PorterError, match="no pod with uid b is bound to node n1"):
        await pods.require(PodArguments(uid="b"))


async def test_static_pods_are_known_by_their_manifest(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text("metadata: {name: web}\nspec: {}\n")
    (tmp_path / "broken.yaml").write_text(": [")
    pods = Pods(OnePod({"metadata": {}}), "n1", tmp_path)
    assert (await pods.require(PodArguments(uid="x", pod="default/web-n1")))["metadata"]["name"] == "web"
    assert static_key({"metadata": {"name": "a", "namespace": "kube-system"}}, "n1") == "kube-system/a-n1"


def test_a_mirror_pod_is_known_by_both_uids() -> None:
    pod = {"metadata": {"uid": "api", "annotations": {"kubernetes.io/config.mirror": "static"}}}
    assert uids_of(pod) == ["api", "static"]


@pytest.mark.parametrize(
    ("kind", "source", "volume", "fault"),
    [
        ("tmpfs", "", {"emptyDir": {"medium": "Memory"}}, ""),
        ("tmpfs", "", {"secret": {"secretName": "s"}}, ""),
        ("tmpfs", "", {"hostPath": {"path": "/"}}, "hostPath"),
        ("nfs", "srv:/a", {"nfs": {"server": "srv", "path": "/a"}}, ""),
        ("nfs", "evil:/a", {"nfs": {"server": "srv", "path": "/a"}}, "not evil:/a"),
        ("bind", "/data", {"hostPath": {"path": "/data"}}, ""),
        ("bind", "/etc", {"hostPath": {"path": "/data"}}, "not /etc"),
    ],
)
def test_a_mount_must_be_what_the_pod_asks_for(kind: Any, source: str, volume: dict[str, Any], fault: str) -> None:
    wish = Mount(uid="a", name="v", kind=kind, source=source)
    if fault:
        with pytest.raises(PorterError, match=fault):
            check(wish, {"name": "v"} | volume)
    else:
        assert check(wish, {"name": "v"} | volume) == next(iter(volume))


@pytest.mark.parametrize(("container_id", "host_id"), [(0, 1000), (1, 100000), (65536, 165535)])
def test_container_ids_are_mapped(container_id: int, host_id: int) -> None:
    assert IDS.host_uid(container_id) == host_id
    assert IDS.owns(host_id)


def test_ids_beyond_the_range_are_refused() -> None:
    with pytest.raises(PorterError, match="group id 11 is outside of the 10 ids"):
        IDS.host_gid(11)
    assert not IDS.owns(0)


@pytest.mark.parametrize("owner", ["sampan", "1000"])
def test_subordinate_ids_by_name_or_number(owner: str) -> None:
    assert parse_subordinate(f"other:1:2\n{owner}:100000:65536\n", "sampan", 1000) == (100000, 65536)
    assert parse_subordinate("", "sampan", 1000) == (0, 0)


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "pods" / "a").mkdir(parents=True)
    (tmp_path / "pods" / "a" / "out").symlink_to("/etc")
    root = str(tmp_path / "pods")
    for path in ("a/out/passwd", "a/../../x", "a/missing"):
        with pytest.raises((PorterError, OSError)), beneath.opened(root, path):
            pass
    with beneath.opened(root, "a") as descriptor:
        assert descriptor > 0
    with pytest.raises(PorterError):
        beneath.relative_to("/etc/passwd", root)


MOUNTINFO = r"""22 1 0:21 / /proc rw,nosuid - proc proc rw
30 22 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 30 0:28 / /run/c\040d rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_mountinfo() -> None:
    assert [point.path for point in parse_mountinfo(MOUNTINFO)][-2] == "/run/c d"
    found = parse_hierarchies(MOUNTINFO)
    assert found.version == 1
    assert set(found.v1) == {"memory", "cpu", "cpuacct"}
    assert parse_hierarchies("33 30 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").version == 2


def test_limits_as_files() -> None:
    assert writes(Limits(memory_bytes=1024, cpu_quota_us=50000, cpu_period_us=100000, pids=-1)) == [
        ("memory", "memory.limit_in_bytes", "1024"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("pids", "pids.max", "max"),
    ]


def test_the_network_is_a_bridge_where_the_filter_sees_bridged_packets() -> None:
    cidrs = ("10.244.1.0/24", "fd00::/64")
    made = default_list(cidrs, mtu=1400, is_bridge_filtered=True, data_dir="/d")["plugins"][0]
    assert (made["type"], made["mtu"], len(made["ipam"]["ranges"])) == ("bridge", 1400, 2)
    assert default_list(cidrs, mtu=0, is_bridge_filtered=False, data_dir="/d")["plugins"][0]["type"] == "ptp"


def test_the_first_file_is_the_network_in_force(tmp_path: Path) -> None:
    with pytest.raises(PorterError, match="no pod CIDR yet"):
        load_list(tmp_path)
    (tmp_path / "10-sampan.conflist").write_text('{"name": "sampan", "plugins": [{"type": "bridge"}]}')
    (tmp_path / "05-other.conf").write_text('{"name": "other", "type": "macvlan"}')
    assert load_list(tmp_path)["plugins"][0]["type"] == "macvlan"
