"""Whole stacks through the real CLI: a lab's resources together, its secrets, an update that is killed, two at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.hypervisor.libvirtd import Libvirtd
from infra.provider.binding import connect, libvirt
from tests.integration.provider.stacks import PLUGINS, Declared, Stack, declare

PASSWORD = "correct horse battery staple"
APPEARS_TIMEOUT_S = 60


def lab(prefix: str, folder: Path, number: int, *, memory: int = 64, nodes: int = 2) -> list[Declared]:
    """What the VM lab makes: a network, a pool, a base volume, and for each node a volume, cloud-init and a domain."""
    subnet = f"10.94.{number}"
    made = [
        declare("Network", f"{prefix}-net", name=f"{prefix}-net", mode="open", addresses=[f"{subnet}.0/24"]),
        declare("Pool", f"{prefix}-pool", name=f"{prefix}-pool", type="dir", target={"path": str(folder / prefix)}),
        declare("Volume", f"{prefix}-base", name="base", pool={"of": f"{prefix}-pool.name"}, size=1 << 20),
    ]
    for node in range(nodes):
        name = f"{prefix}-n{node}"
        user_data = f"#cloud-config\npassword: {PASSWORD}\n"
        plug = {
            "network_id": {"of": f"{prefix}-net.id"},
            "hostname": f"n{node}",
            "addresses": [f"{subnet}.{10 + node}"],
        }
        made += [
            declare(
                "Volume",
                f"{name}-disk",
                name=f"{name}-disk",
                pool={"of": f"{prefix}-pool.name"},
                base_volume_id={"of": f"{prefix}-base.id"},
            ),
            declare(
                "CloudInitDisk",
                f"{name}-seed",
                name=f"{name}-seed",
                pool={"of": f"{prefix}-pool.name"},
                user_data=user_data,
            ),
            declare(
                "Domain",
                name,
                name=name,
                type="qemu",
                memory=memory,
                cloudinit={"of": f"{name}-seed.id"},
                disks=[{"volume_id": {"of": f"{name}-disk.id"}}],
                network_interfaces=[plug],
            ),
        ]
    return made


def domains(connection: Any, prefix: str) -> dict[str, Any]:
    return {each.name(): each for each in connection.listAllDomains() if each.name().startswith(f"{prefix}-")}


def left(connection: Any, folder: Path, prefix: str) -> list[str]:
    """All that there is of a lab."""
    return [
        *domains(connection, prefix),
        *(each.name() for each in connection.listAllNetworks() if each.name().startswith(prefix)),
        *(each.name() for each in connection.listAllStoragePools() if each.name().startswith(prefix)),
        *(str(path) for path in folder.rglob("*")),
    ]


def test_a_lab_from_its_first_update_to_its_last(
    new_stack: Callable[[str], Stack], connection: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "pools"
    folder.mkdir()
    stack = new_stack("whole")
    run = stack.up(lab("whole", folder, 1))
    assert set(run.operations.values()) == {"create"}
    assert all(domain.isActive() for domain in domains(connection, "whole").values())
    assert set(stack.up(lab("whole", folder, 1)).operations.values()) == {"same"}
    # Secrets are in the state only encrypted, and in nothing else that was written.
    kept = Path(stack.environment["PULUMI_BACKEND_URL"].removeprefix("file://"))
    places = [path for path in (*kept.rglob("*"), *stack.folder.glob("events.json")) if path.is_file()]
    assert places
    assert not [path for path in places if PASSWORD in path.read_text(errors="replace")]
    # One node less, then a bigger machine: the other node is not touched.
    ids = {name: domain.ID() for name, domain in domains(connection, "whole").items()}
    run = stack.up(lab("whole", folder, 1, nodes=1))
    assert run.unlike_same == dict.fromkeys(["whole-n1", "whole-n1-disk", "whole-n1-seed"], "delete")
    assert domains(connection, "whole")["whole-n0"].ID() == ids["whole-n0"]
    run = stack.up(lab("whole", folder, 1, nodes=1, memory=80))
    assert run.unlike_same == {"whole-n0": "update"}
    assert "is restarted" in run.diagnostics["whole-n0"]
    # Destroyed behind Pulumi's back: found by a refresh, and made again.
    domain = domains(connection, "whole")["whole-n0"]
    domain.destroy()
    domain.undefine()
    run = stack.up(lab("whole", folder, 1, nodes=1, memory=80), "--refresh")
    assert run.operations["whole-n0"] == "create"
    stack.destroy()
    assert left(connection, folder, "whole") == []


def test_another_base_image_makes_the_machine_anew(
    new_stack: Callable[[str], Stack], connection: Any, tmp_path: Path
) -> None:
    """Its path is the same, so that only the replacement tells the domain that its disk is another one."""
    stack = new_stack("base")
    before = lab("base", tmp_path, 2, nodes=1)
    stack.up(before)
    id = domains(connection, "base")["base-n0"].UUIDString()
    after = [
        {**each, "properties": {**each["properties"], "format": "raw"}} if each["name"] == "base-base" else each
        for each in before
    ]
    run = stack.up(after)
    assert run.unlike_same == dict.fromkeys(["base-base", "base-n0-disk", "base-n0"], "replace")
    assert domains(connection, "base")["base-n0"].UUIDString() != id
    stack.destroy()


@pytest.mark.parametrize("moment", ["base-volume", "first-domain"])
def test_a_killed_update_is_finished_by_the_next(
    new_stack: Callable[[str], Stack], connection: Any, tmp_path: Path, moment: str
) -> None:
    """SIGKILL to the CLI in the middle: its plugins end, its lock goes, and what it made is taken over."""
    name = f"kill-{moment}"
    folder = tmp_path / "pools"
    folder.mkdir()
    stack = new_stack(name)
    resources = lab(name, folder, {"base-volume": 3, "first-domain": 4}[moment], nodes=3)
    stack.declare(resources)
    process = stack.start("up", "--yes", "--skip-preview")

    def is_there() -> bool:
        return bool(domains(connection, name)) if moment == "first-domain" else (folder / name / "base").exists()

    deadline = time.monotonic() + APPEARS_TIMEOUT_S
    while not is_there():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    plugins = children_of_session(process.pid)
    process.communicate()
    while any(is_alive(pid) for pid in plugins):
        assert time.monotonic() < deadline, f"plugins outlive their CLI: {plugins}"
        time.sleep(0.05)
    stack.command("cancel", "--yes")
    run = stack.up(resources)
    assert set(run.operations.values()) <= {"create", "same"}
    assert all(domain.isActive() for domain in domains(connection, name).values())
    assert len(domains(connection, name)) == 3
    assert stack.up(resources).unlike_same == {}
    stack.destroy()
    assert left(connection, folder, name) == []


def test_a_failure_in_the_middle_keeps_what_was_made(
    new_stack: Callable[[str], Stack], connection: Any, tmp_path: Path
) -> None:
    stack = new_stack("middle")
    resources = lab("middle", tmp_path, 5)
    broken = [
        {**each, "properties": {**each["properties"], "kernel": "/none/vmlinuz"}}
        if each["name"] == "middle-n1"
        else each
        for each in resources
    ]
    run = stack.up(broken, fails=True)
    assert "domain middle-n1 cannot be started" in run.diagnostics["middle-n1"]
    assert set(domains(connection, "middle")) <= {"middle-n0"}
    run = stack.up(resources)
    assert run.operations["middle-n1"] == "create"
    assert set(domains(connection, "middle")) == {"middle-n0", "middle-n1"}
    stack.destroy()


def test_two_stacks_at_once(new_stack: Callable[[str], Stack], connection: Any, tmp_path: Path) -> None:
    stacks = {name: new_stack(name) for name in ("east", "west")}
    runs: dict[str, Any] = {}

    def update(name: str, number: int) -> None:
        runs[name] = stacks[name].up(lab(name, tmp_path, number))

    threads = [threading.Thread(target=update, args=(name, 6 + number)) for number, name in enumerate(stacks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: set(run.operations.values()) for name, run in runs.items()} == {
        "east": {"create"},
        "west": {"create"},
    }
    stacks["east"].destroy()
    assert domains(connection, "east") == {}
    assert all(domain.isActive() for domain in domains(connection, "west").values())
    assert ET.fromstring(connection.networkLookupByName("west-net").XMLDesc()).findall("ip/dhcp/host") != []
    assert stacks["west"].up(lab("west", tmp_path, 7), "--refresh").unlike_same == {}
    stacks["west"].destroy()


def test_a_domain_that_exists_is_imported(new_stack: Callable[[str], Stack], connection: Any) -> None:
    made = connection.defineXML(
        "<domain type='qemu'><name>imported</name><memory unit='MiB'>64</memory>"
        "<os><type machine='pc'>hvm</type></os></domain>"
    )
    stack = new_stack("import")
    stack.adopt("Domain", "imported", made.UUIDString())
    inputs = stack.state("imported")["inputs"]
    assert inputs["memory"] == 64
    assert inputs["running"] is False
    properties = {"name": "imported", "type": "qemu", "memory": 64, "running": False, "machine": inputs["machine"]}
    assert stack.up([declare("Domain", "imported", **properties)], "--diff").unlike_same == {}
    stack.destroy()
    with pytest.raises(libvirt.libvirtError):
        connection.lookupByName("imported")


def test_pulumi_understands_the_schema(stack: Stack) -> None:
    """With it, and the official language host, `pulumi import` writes the program as well."""
    command = ["pulumi", "package", "get-schema", str(PLUGINS / "pulumi-resource-libvirt")]
    done = subprocess.run(command, env=stack.environment, cwd=stack.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    schema = json.loads(done.stdout)
    assert "libvirt:index/domain:Domain" in schema["resources"]


def test_a_network_made_anew_is_plugged_in_again(
    new_stack: Callable[[str], Stack], connection: Any, tmp_path: Path
) -> None:
    """The domain stays: its interface is moved, and its fixed address is in the new network."""
    stack = new_stack("anew")
    resources = lab("anew", tmp_path, 8, nodes=1)
    stack.up(resources)
    id = domains(connection, "anew")["anew-n0"].UUIDString()
    net = resources[0]
    changed = [{**net, "properties": {**net["properties"], "domain": "anew.test"}}, *resources[1:]]
    run = stack.up(changed)
    assert run.unlike_same == {"anew-net": "replace", "anew-n0": "update"}
    domain = domains(connection, "anew")["anew-n0"]
    assert domain.UUIDString() == id
    network = connection.networkLookupByName("anew-net")
    assert [each.get("ip") for each in ET.fromstring(network.XMLDesc()).findall("ip/dhcp/host")] == ["10.94.8.10"]
    ports = [ET.fromstring(port.XMLDesc()).findtext("owner/uuid") for port in network.listAllPorts()]
    assert ports == [id]  # libvirt has a port for each interface that is really plugged in
    assert stack.up(changed).unlike_same == {}
    stack.destroy()


def test_two_hypervisors(
    new_stack: Callable[[str], Stack], libvirtd: Libvirtd, connection: Any, tmp_path: Path
) -> None:
    """A resource is made by the libvirtd that its provider names; each has its own pool and network of one name."""
    folder = Path(tempfile.mkdtemp(prefix="sampan-p2-", dir="/var/lib"))
    second = Libvirtd(folder)
    second.start()
    try:
        resources = [declare("Provider", name, uri=each.uri) for name, each in (("here", libvirtd), ("there", second))]
        for name in ("here", "there"):
            place = {"path": str(tmp_path / name)}
            resources += [
                {**declare("Pool", f"pool-{name}", name="both", type="dir", target=place), "provider": name},
                {**declare("Domain", f"domain-{name}", name="both", type="qemu", memory=64), "provider": name},
            ]
        stack = new_stack("both")
        stack.up(resources)
        far = connect(second.uri)
        for each in (connection, far):
            assert each.lookupByName("both").isActive()
            assert each.storagePoolLookupByName("both").isActive()
        assert connection.lookupByName("both").UUIDString() != far.lookupByName("both").UUIDString()
        assert stack.up(resources, "--refresh").unlike_same == {}
        stack.destroy()
        assert far.listAllDomains() == []
        far.close()
    finally:
        second.remove()
        shutil.rmtree(folder, ignore_errors=True)


def test_an_import_that_asks_for_code_says_what_to_do_and_has_imported(
    new_stack: Callable[[str], Stack], connection: Any
) -> None:
    network = connection.networkDefineXML("<network><name>imported</name><bridge name='gt-imported'/></network>")
    stack = new_stack("code")
    said = " ".join(stack.adopt("Network", "imported", network.UUIDString(), code=True).output.split())
    assert "Method not implemented" not in said
    assert "declare it in the program with the properties that `pulumi stack export` shows" in said
    assert "--generate-code=false" in said
    assert stack.state("imported")["inputs"]["bridge"] == "gt-imported"
    stack.destroy()


def providers() -> list[str]:
    """Ours, and the upstream one wherever it is installed: an ordinary program, not one of our launchers."""
    found = [""]
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        program = Path(folder, "pulumi-resource-libvirt")
        if program.is_file() and os.access(program, os.X_OK) and not program.read_bytes().startswith(b"#!"):
            found.append(str(program))
    return found


@pytest.mark.parametrize("provider", providers(), ids=lambda path: "upstream" if path else "ours")
def test_one_program_for_either_provider(
    new_stack: Callable[[str], Stack], connection: Any, tmp_path: Path, provider: str
) -> None:
    stack = new_stack("upstream" if provider else "ours")
    if provider:
        stack.environment["SAMPAN_LIBVIRT_PROVIDER"] = provider
    try:
        resources = lab("either", tmp_path, 9, nodes=1)
        assert set(stack.up(resources).operations.values()) == {"create"}
        assert domains(connection, "either")["either-n0"].isActive()
        assert stack.up(resources).unlike_same == {}
        stack.destroy()
        assert domains(connection, "either") == {}
    finally:
        stack.environment.pop("SAMPAN_LIBVIRT_PROVIDER", None)


def children_of_session(session: int) -> list[int]:
    """The processes of a command's session, without itself: its plugins and its program."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != session:
            try:
                if os.getsid(int(entry.name)) == session:
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
