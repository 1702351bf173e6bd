"""The host's command lines for a lab of machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra import vm_lab
from infra.libvirt import registry
from infra.libvirt.registry import Lab
from infra.topology import LIBVIRT, MACHINES, Machine, Topology

LAB = Lab(topology=Topology(name="a", backend=LIBVIRT, workers=1), project="p", stack="s", folder="/p")
OWN = Topology(
    name="own", backend=MACHINES, workers=1, machines=(Machine(ssh="10.0.0.1:2222"), Machine(ssh="me@[fd00::1]"))
)


@pytest.fixture(autouse=True)
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("infra.libvirt.registry.LABS", tmp_path)
    return tmp_path


def test_a_virtual_machine_is_reached_with_the_labs_key_and_known_hosts(labs: Path) -> None:
    line = vm_lab.ssh_line(LAB, LAB.topology.node("worker-1"), ["cat", "/a b"])
    assert line[-2:] == ["root@172.30.0.13", "cat '/a b'"]
    assert str(labs / "a/ssh") in line
    assert f"UserKnownHostsFile={labs / 'a/known_hosts'}" in line
    assert "StrictHostKeyChecking=yes" in line


def test_the_containers_user_gets_a_login(labs: Path) -> None:
    line = vm_lab.ssh_line(LAB, LAB.topology.node("worker-1"), ["podman", "ps"], user="sampan")
    assert line[-1] == "runuser --login sampan --command 'podman ps'"
    assert vm_lab.ssh_line(LAB, LAB.topology.node("worker-1"), [])[-1] == "root@172.30.0.13"


def test_a_machine_of_the_users_is_reached_as_the_user_does(labs: Path) -> None:
    (labs / "own").mkdir()
    (labs / "own/lab.json").write_text(json.dumps({"backend": MACHINES, "topology": OWN.to_data(), "hostKeys": {}}))
    known = vm_lab.find("own")
    assert known is not None
    first, second = known.topology.nodes
    assert vm_lab.ssh_line(known, first, ["id"])[-2:] == ["ssh://root@10.0.0.1:2222", "id"]
    assert vm_lab.ssh_line(known, second, ["id"])[-2:] == ["ssh://me@[fd00::1]", "sudo --non-interactive -- id"]
    assert not any("known_hosts" in word for word in vm_lab.ssh_line(known, first, []))
    with pytest.raises(RuntimeError, match=r"machine of your own"):
        vm_lab.Machines(known, "").power_off("worker-1")


def test_no_lab_is_found_where_there_is_none() -> None:
    assert vm_lab.find("none") is None


def test_logs_are_the_machines_journal_or_files_of_the_lab(labs: Path) -> None:
    line = vm_lab.logs_line(LAB, "kubelet", "worker-1", 5, follow=True)
    assert line[-1].endswith("--unit sampan-kubelet.service --output cat --no-pager --lines 5 --follow")
    assert vm_lab.logs_line(LAB, "console", "worker-1", -1, follow=False) == [
        "tail", "-n", "+1", "--", str(labs / "a" / registry.CONSOLE / "worker-1.log"),
    ]  # fmt: skip
    with pytest.raises(LookupError, match=r"say which node with --node: control-plane-1, worker-1"):
        vm_lab.logs_line(LAB, "kubelet", "", 5, follow=False)


def test_units_are_read_from_systemctl() -> None:
    said = "Id=sampan-node.service\nActiveState=active\nMainPID=7\nNRestarts=2\nExecMainStatus=1\n\nId=x\n"
    first, second = vm_lab.unit_properties(said)
    assert first["MainPID"] == "7"
    assert second == {"Id": "x"}
