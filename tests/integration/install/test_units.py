"""Units of every lab and node as systemd itself reads them; on a file system of their own, with systemd's own units."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra import pki
from infra.install import units, vm
from infra.topology import Machine, Topology

SYSTEM = Path("/usr/lib/systemd/system")
MACHINE = Machine(ssh="root@192.0.2.1", address_v4="192.0.2.1")
LABS = {
    "one-and-one": Topology(backend="libvirt", workers=1),
    "apart": Topology(backend="libvirt", workers=1, separate=True),
    "three-control-planes": Topology(backend="libvirt", control_planes=3, workers=0),
    "machine": Topology(backend="machines", workers=0, machines=(MACHINE,)),
}
PROGRAMS = ("mkdir", "podman", "sampan", "sh")
# systemd before 254 (Debian 12's, which may be the one that reads here; a node has 257) lacks one setting.
OLDER = re.compile(r"Unknown key (name )?'DelegateSubgroup' in section ")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("root")
    (place / "usr/bin").mkdir(parents=True)
    (place / "usr/sbin").mkdir()
    for link, target in (("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib")):
        (place / link).symlink_to(target)
    shutil.copytree(SYSTEM, place / SYSTEM.relative_to("/"), symlinks=True)
    for program in PROGRAMS:
        (place / "usr/bin" / program).write_text("#!/bin/sh\n")
        (place / "usr/bin" / program).chmod(0o755)
    yield place


def complaints(root: Path, made: dict[str, bytes]) -> list[str]:
    folder = root / units.FOLDER.lstrip("/")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in made.items():
        (folder / name).write_bytes(content)
    command = ["systemd-analyze", "verify", f"--root={root}", "--man=no", *(f"{units.FOLDER}/{name}" for name in made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 0, lines
    return [line for line in lines if line.strip() and not OLDER.search(line)]


@pytest.mark.parametrize("lab", LABS.values(), ids=LABS)
def test_systemd_understands_every_unit(lab: Topology, root: Path) -> None:
    keys = pki.generate(lab, {}, datetime.now(UTC))
    for node in lab.nodes:
        made = {unit.name: unit.content for unit in vm.wanted(lab, node, keys, None).units}
        assert complaints(root, made) == [], node.name


def test_a_misspelt_setting_would_be_found(root: Path) -> None:
    content = b"[Service]\nProtectSistem=strict\nExecStart=/usr/bin/sampan\n"
    (line,) = complaints(root, {"sampan-wrong.service": content})
    assert "ProtectSistem" in line


def test_a_missing_program_would_be_found(root: Path) -> None:
    with pytest.raises(AssertionError, match="no-such-program"):
        complaints(root, {"sampan-wrong.service": b"[Service]\nExecStart=/usr/bin/no-such-program\n"})


EXPOSURE = re.compile(r"exposure level for (\S+): ([\d.]+)")


@pytest.mark.parametrize(
    ("process", "most"),
    [
        ("api-server", 2.0),
        ("scheduler", 2.0),
        ("controller-manager", 2.0),
        ("kubelet", 3.0),
        ("proxy", 5.5),
        ("dns", 5.5),
        ("podman", 8.0),  # containers inherit what it is denied
        ("porter", 8.5),  # its mounts must reach the machine
    ],
)
def test_units_are_confined(process: str, most: float, root: Path) -> None:
    """By systemd's own measure: 0 is nothing exposed, 10 everything."""
    lab = LABS["apart"]
    keys = pki.generate(lab, {}, datetime.now(UTC))
    made = {unit.name: unit.content for unit in vm.wanted(lab, lab.control_plane, keys, None).units}
    complaints(root, made)
    command = ["systemd-analyze", "security", "--offline=true", f"--root={root}", "--no-pager"]
    said = subprocess.run([*command, units.unit_name(process)], capture_output=True, text=True, check=False).stdout
    found = EXPOSURE.search(said)
    assert found is not None and float(found[2]) <= most, said


@pytest.mark.parametrize("lab", ["one-and-one", "apart"])
def test_a_server_has_started_when_it_says_so(lab: str) -> None:
    """That it does is shown in tests/integration/apiserver/test_network.py. The others serve nobody who waits."""
    topology = LABS[lab]
    keys = pki.generate(topology, {}, datetime.now(UTC))
    made = {unit.name: unit.content.decode() for unit in vm.wanted(topology, topology.control_plane, keys, None).units}
    types = {name: kind for name, text in made.items() for kind in re.findall(r"^Type=(.*)", text, re.MULTILINE)}
    serving = {"one-and-one": "server", "apart": "api-server"}[lab]
    assert {name for name, kind in types.items() if kind == "notify"} == {units.unit_name(serving)}
    assert "ExecStartPost" not in made[units.unit_name(serving)]
