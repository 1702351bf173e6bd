"""The dynamic resources: what makes them change, what they leave, what they refuse. Called as the engine calls them."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime import rpc

from infra import pki
from infra.install import vm
from infra.install.ssh import Ssh
from infra.libvirt import access, clashes, cluster, keys, nodes, registry, reservation
from infra.libvirt.access import AccessProvider
from infra.libvirt.drain import DrainProvider
from infra.libvirt.keys import KeysProvider
from infra.libvirt.nodes import MachineUnreachable, NodeProvider
from infra.libvirt.registry import Claimed, Lab
from infra.libvirt.reservation import ReservationProvider
from infra.topology import LIBVIRT, Topology
from orchestrator.api import meta

LAB = Topology(name="a", backend=LIBVIRT, workers=1)


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("infra.libvirt.registry.LABS", tmp_path / "labs")
    return tmp_path / "labs"


def lab_keys() -> dict[str, Any]:
    return {"subjects": keys.data(pki.lab_subjects(LAB)), "files": None}  # the engine drops an input that is None


class TestKeys:
    def test_they_stay_while_they_are_good(self) -> None:
        made = KeysProvider().create(lab_keys()).outs
        assert made is not None
        assert KeysProvider().diff("keys", made, lab_keys()).changes is False
        assert "BEGIN OPENSSH PRIVATE KEY" in made["files"]["ssh"]

    def test_those_of_a_node_are_signed_by_the_lab(self) -> None:
        authority = (KeysProvider().create(lab_keys()).outs or {})["files"]
        (node, _) = LAB.nodes
        own = {"subjects": keys.data(pki.node_subjects(LAB, node)), "authority": authority}
        files = (KeysProvider().create(own).outs or {})["files"]
        assert "ca.key" not in files
        assert {"apiserver.crt", "kubelet-control-plane-1.key", "ssh.pub"} <= set(files)

    def test_a_moved_node_keeps_its_host_key(self) -> None:
        authority = (KeysProvider().create(lab_keys()).outs or {})["files"]
        before = {"subjects": keys.data(pki.node_subjects(LAB, LAB.nodes[1])), "authority": authority}
        olds = KeysProvider().create(before).outs or {}
        moved = Topology(name="a", backend=LIBVIRT, workers=1, index=7)
        news = {"subjects": keys.data(pki.node_subjects(moved, moved.nodes[1])), "authority": authority}
        assert KeysProvider().diff("keys", olds, news).changes is True
        files = (KeysProvider().update("keys", olds, news).outs or {})["files"]
        assert files["ssh"] == olds["files"]["ssh"]
        assert files["kubelet-worker-1.crt"] != olds["files"]["kubelet-worker-1.crt"]
        assert files["kubelet-client-worker-1.crt"] == olds["files"]["kubelet-client-worker-1.crt"]

    def test_they_are_renewed_before_they_end(self) -> None:
        late = datetime.now(UTC) - timedelta(days=pki.VALID_DAYS - 5)
        old = keys.made(lab_keys(), {}, late)
        assert KeysProvider().diff("keys", {"files": old}, lab_keys()).changes is True

    def test_an_authority_that_is_made_anew_changes_what_it_signs(self) -> None:
        news = {"subjects": [], "authority": rpc.UNKNOWN}
        assert KeysProvider().diff("keys", {"files": {}}, news).changes is True


class TestAccess:
    def test_files_are_their_owners_alone_and_come_back(self, tmp_path: Path) -> None:
        props = {"folder": str(tmp_path), "files": {"admin.kubeconfig": "secret\n", "known_hosts": "k\n"}}
        provider = AccessProvider()
        provider.create(props)
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
        assert provider.read("access", props).id == "access"
        (tmp_path / "admin.kubeconfig").write_text("other")
        assert provider.read("access", props).id == ""
        provider.delete("access", props)
        assert list(tmp_path.iterdir()) == []

    def test_only_another_content_is_a_change(self, tmp_path: Path) -> None:
        props = {"folder": str(tmp_path), "files": {"f": "1"}}
        assert AccessProvider().diff("access", props, dict(props)).changes is False
        assert AccessProvider().diff("access", props, {**props, "files": {"f": "2"}}).changes is True
        assert access.present(tmp_path, {"f": "1"}) is False


def reserved(topology: Topology, stack: str = "dev") -> dict[str, str]:
    lab = Lab(topology=topology, project="p", stack=stack, folder="/p", uri="qemu:///system")
    return reservation.properties(lab)


class TestReservation:
    def test_another_topology_and_another_place_are_noted(self, labs: Path) -> None:
        provider, olds = ReservationProvider(), reserved(LAB)
        provider.create(olds)
        more = reserved(Topology(name="a", backend=LIBVIRT, workers=4))
        assert provider.diff("a", olds, more).changes is True
        provider.update("a", olds, more)
        known = registry.read("a")
        assert known is not None
        assert (known.topology.workers, known.uri) == (4, "qemu:///system")
        (labs / "a/pool").mkdir()
        moved = reserved(Topology(name="a", backend=LIBVIRT, index=2))
        assert provider.diff("a", olds, moved).changes is True
        provider.update("a", olds, moved)
        assert (labs / "a/pool").is_dir()  # what is in the lab's folder stays

    def test_a_lab_keeps_its_name(self) -> None:
        other = reserved(Topology(name="b", backend=LIBVIRT))
        with pytest.raises(Claimed, match=r"^name: 'b': the lab of this stack is called 'a'"):
            ReservationProvider().diff("a", reserved(LAB), other)

    def test_what_was_removed_behind_its_back_is_seen(self, labs: Path) -> None:
        provider, props = ReservationProvider(), reserved(LAB)
        provider.create(props)
        assert provider.read("a", props).id == "a"
        (labs / "a/lab.json").unlink()
        assert provider.read("a", props).id == ""

    def test_a_name_of_another_stack_is_refused(self, labs: Path) -> None:
        ReservationProvider().create(reserved(LAB))
        with pytest.raises(Claimed, match="is that of stack dev"):
            ReservationProvider().create(reserved(LAB, stack="other"))


class TestNodeInstall:
    @pytest.mark.parametrize(
        ("change", "changes"),
        [
            pytest.param({}, False, id="nothing"),
            pytest.param({"files": {"/etc/sampan/kubelet.yaml": "2"}}, True, id="another-file"),
            pytest.param({"machine": "other"}, True, id="another-machine"),
            pytest.param({"topology": "{}", "wheel": "/other.whl"}, False, id="what-changes-nothing-on-it"),
            pytest.param({"files": rpc.UNKNOWN}, True, id="not-known-yet"),
        ],
    )
    def test_it_changes_for_a_reason(self, change: dict[str, Any], changes: bool) -> None:
        olds = {"files": {"/etc/sampan/kubelet.yaml": "1"}, "machine": "uuid", "topology": "…", "wheel": "/w.whl"}
        assert NodeProvider().diff("worker-1", olds, olds | change).changes is changes

    @pytest.mark.parametrize(
        ("workers", "drained"), [pytest.param(0, ["worker-1"], id="one-less"), pytest.param(1, [], id="the-whole-lab")]
    )
    def test_a_node_is_drained_when_the_lab_goes_on_without_it(
        self, labs: Path, monkeypatch: pytest.MonkeyPatch, workers: int, drained: list[str]
    ) -> None:
        seen: list[str] = []
        monkeypatch.setattr(cluster, "drain", lambda file, node, say, with_bare: seen.append(node))
        monkeypatch.setattr(cluster, "forget", lambda file, node: seen.append(node))
        registry.claim(Lab(topology=LAB, project="p", stack="dev", folder="/p"))
        registry.note_installed("a", "worker-1", is_so=True)
        now = Topology(name="a", backend=LIBVIRT, workers=workers)
        registry.claim(Lab(topology=now, project="p", stack="dev", folder="/p"))
        nodes.leave({"node": "worker-1", "topology": reserved(LAB)["topology"]}, print)
        assert seen == drained * 2
        assert registry.installed("a") == (set() if drained else {"worker-1"})


def test_a_machine_without_network_is_told_of_with_its_console(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen: connections are refused
        console = tmp_path / "worker-1.log"
        console.write_text("[    0.0] booting\n\n[   31.7] Failed to start networking\n")
        machine = Ssh("worker-1", "127.0.0.1", port=nobody.getsockname()[1], key=keys.ssh_pair()["ssh"])
        with pytest.raises(MachineUnreachable) as caught:
            nodes.reach(machine, console, print, limit_s=0.1)
    assert "worker-1" in str(caught.value)
    assert "refuses the connection" in str(caught.value)
    assert "It boots, but has no network or no SSH: cloud-init must set both up" in str(caught.value)
    assert str(caught.value).endswith("[    0.0] booting\n[   31.7] Failed to start networking")


@pytest.mark.parametrize(
    ("console", "says"),
    [
        pytest.param([], "It has said nothing: if its image is your own", id="does-not-boot"),
        pytest.param(["[ 1.0] Kernel panic - not syncing: VFS"], "Its kernel has panicked", id="no-root"),
        pytest.param(["debian login:"], "no network or no SSH", id="no-network"),
    ],
)
def test_what_to_do_about_a_machine_that_does_not_answer(console: list[str], says: str) -> None:
    assert says in nodes.guess(console)


def pod(name: str, **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", **more.pop("metadata", {})}
    return {"metadata": metadata, **more}


def test_pods_that_a_drain_leaves_alone() -> None:
    owner = [{"kind": "DaemonSet", "name": "d", "controller": True}]
    pods = [
        pod("bare"),
        pod("replaced", metadata={"ownerReferences": [{"kind": "ReplicaSet", "name": "r", "controller": True}]}),
        pod("finished", status={"phase": "Succeeded"}),
        pod("daemon", metadata={"ownerReferences": owner}),
        pod("static", metadata={"annotations": {meta.MIRROR_ANNOTATION: "x"}}),
    ]
    assert cluster.drain_plan(pods, with_bare=True) == [("default", "bare"), ("default", "replaced")]
    assert cluster.drain_plan(pods, with_bare=False) == [("default", "replaced")]


@pytest.mark.parametrize(
    ("workers", "drained"), [pytest.param(2, ["worker-1"], id="others-can"), pytest.param(1, [], id="nobody-can")]
)
def test_before_a_restart_pods_go_where_others_can_take_them(
    labs: Path, monkeypatch: pytest.MonkeyPatch, workers: int, drained: list[str]
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(cluster, "drain", lambda file, node, say, with_bare: seen.append(node))
    registry.claim(Lab(topology=LAB, project="p", stack="dev", folder="/p"))
    registry.note_installed("a", "worker-1", is_so=True)
    elsewhere = "yes" if workers > 1 else "no"
    olds = {"lab": "a", "node": "worker-1", "size": "1 MiB, 1 vCPUs", "elsewhere": elsewhere}
    news = {**olds, "size": "2 MiB, 1 vCPUs"}
    assert DrainProvider().diff("worker-1", olds, dict(olds)).changes is False
    assert DrainProvider().diff("worker-1", olds, news).changes is True
    DrainProvider().update("worker-1", olds, news)
    assert seen == drained


NETWORK = """<network><name>other</name>
<ip address='172.30.3.1' netmask='255.255.255.0'/>
<ip family='ipv6' address='fd00:172:30:5::1' prefix='64'/></network>"""


def test_places_whose_networks_libvirt_has_already_are_passed_over() -> None:
    present = {"other": clashes.subnets(NETWORK)}
    assert clashes.taken(present) == {3, 5}
    assert clashes.place_of("other", present) == 3  # a lab of that name, of which the register knows nothing
    assert clashes.place_of("a", present) is None
    with pytest.raises(Claimed, match=r"^index: 3: .* overlaps 172.30.3.0/24 of libvirt's network other: take another"):
        clashes.refuse(Topology(name="a", index=3, backend=LIBVIRT), present)
    clashes.refuse(Topology(name="a", index=4, backend=LIBVIRT), present)


@pytest.mark.parametrize(("losses", "reached"), [(0, 1), (1, 2)])
def test_a_machine_that_goes_away_once_is_reached_again(losses: int, reached: int) -> None:
    left, reaches, told = [vm.ConnectionLost("node a: step 'health': gone")] * losses, [], []

    def install() -> list[str]:
        if left:
            raise left.pop()
        return ["starting kubelet"]

    done = nodes.persistently(lambda: reaches.append(1), install, told.append)
    assert len(reaches) == reached
    assert done == (None if losses else ["starting kubelet"])
    assert told == ["node a: step 'health': gone"] * losses


def test_a_machine_that_goes_away_twice_is_an_error() -> None:
    def install() -> list[str]:
        raise vm.ConnectionLost("node a: step 'health': gone")

    with pytest.raises(vm.ConnectionLost):
        nodes.persistently(lambda: None, install, print)
