"""What cannot be is refused with field or thing, cause and remedy, and what belongs to others is never touched.

No machine is started here.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.libvirt import registry
from tests.e2e.vm.machines import VmLab, leftovers

pytestmark = pytest.mark.timeout(900)
FOREIGN_DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory>
<os><type>hvm</type></os></domain>"""
FOREIGN_NETWORK = "<network><name>{name}</name><bridge name='{bridge}'/><ip address='{address}' prefix='24'/></network>"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[VmLab]:
    made = VmLab(f"no{uuid.uuid4().hex[:8]}", tmp_path / "kubeconfig")
    try:
        yield made
    finally:
        made.sampan("down", "--name", made.name, timeout_s=600)


def words(said: str) -> str:
    """One line, however wide the terminal was."""
    return " ".join(said.split())


def refused(lab: VmLab, *options: str) -> str:
    return words(lab.up("--backend", "libvirt", "--workers", "0", *options, check=False))


@pytest.fixture
def foreign_domain(lab: VmLab) -> Iterator[str]:
    name = f"{lab.name}-control-plane-1"
    define(lab, "define", FOREIGN_DOMAIN.format(name=name))
    yield name
    lab.virsh("undefine", name)


def define(lab: VmLab, verb: str, description: str) -> None:
    subprocess.run(
        ["virsh", "--quiet", verb, "/dev/stdin"], input=description, text=True, check=True, env=lab.environment
    )


def test_a_foreign_domain_of_that_name_is_left_alone(lab: VmLab, foreign_domain: str) -> None:
    before = lab.virsh("dumpxml", foreign_domain)
    said = refused(lab)
    assert foreign_domain in said
    assert "this stack did not make it" in said, said
    assert lab.virsh("dumpxml", foreign_domain) == before
    lab.sampan("down", "--name", lab.name, timeout_s=600)
    assert lab.virsh("dumpxml", foreign_domain) == before


def test_a_foreign_network_of_that_name_is_left_alone(lab: VmLab) -> None:
    define(
        lab,
        "net-define",
        FOREIGN_NETWORK.format(name=lab.name, bridge=f"gt{uuid.uuid4().hex[:8]}", address="10.250.0.1"),
    )
    before = lab.virsh("net-dumpxml", lab.name)
    try:
        said = refused(lab)
        assert lab.name in said
        assert "this stack did not make it" in said, said
        assert lab.virsh("net-dumpxml", lab.name) == before
        lab.sampan("down", "--name", lab.name, timeout_s=600)
        assert lab.virsh("net-dumpxml", lab.name) == before
    finally:
        lab.virsh("net-undefine", lab.name)


def test_a_network_of_libvirt_that_overlaps_is_gone_around_and_a_place_insisted_on_refused(lab: VmLab) -> None:
    place = registry.place(lab.name)
    other = f"other-{lab.name}"
    define(
        lab,
        "net-define",
        FOREIGN_NETWORK.format(name=other, bridge=f"gt{uuid.uuid4().hex[:8]}", address=f"172.30.{place}.1"),
    )
    try:
        lab.prepare()
        said = words(lab.pulumi_at_project("preview"))
        assert f"172.30.{place}." not in said
        assert "https://172.30." in said
        lab.pulumi_at_project("config", "set", "sampan:index", str(place))
        said = words(lab.pulumi_at_project("preview", check=False))
        assert f"index: {place}: the node network 172.30.{place}.0/24 overlaps" in said
        assert f"virsh net-destroy {other}" in said
    finally:
        lab.virsh("net-undefine", other)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        pytest.param("workers", "many", "workers: 'many': must be a whole number", id="number"),
        pytest.param("workrs", "1", "workrs: '1': there is no such setting; there are", id="key"),
        pytest.param("controlPlanes", "3", "controlPlanes: 3: this version of Sampan keeps its objects", id="ha"),
        pytest.param("domainType", "xen", "domainType: 'xen': must be one of auto, kvm, qemu", id="type"),
        pytest.param("image", "/nowhere.qcow2", "/nowhere.qcow2", id="image"),
    ],
)
def test_a_wrong_setting_names_field_value_and_rule(lab: VmLab, key: str, value: str, says: str) -> None:
    lab.prepare()
    lab.pulumi_at_project("config", "set", f"sampan:{key}", value)
    said = words(lab.pulumi_at_project("preview", check=False))
    assert says in said
    assert "Traceback" not in said
    assert registry.read(lab.name) is None


def test_a_full_disk_says_how_much_is_left_and_where(lab: VmLab) -> None:
    pool = registry.folder(lab.name) / "pool"
    pool.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", pool], check=True)
    try:
        said = refused(lab)
        assert f"the pool {lab.name} has" in said, said
        assert "Make room there" in said
        assert "Traceback" not in said
    finally:
        subprocess.run(["umount", "--lazy", pool], check=True)


def test_an_image_that_was_cut_short_is_refused_before_anything_is_made(lab: VmLab, tmp_path: Path) -> None:
    content, image = tmp_path / "content", tmp_path / "cloud.qcow2"
    content.write_bytes(os.urandom(4 << 20))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", content, image], check=True)
    os.truncate(image, image.stat().st_size // 2)
    lab.prepare()
    lab.pulumi_at_project("config", "set", "sampan:image", str(image))
    said = words(lab.pulumi_at_project("preview", check=False))
    assert f"image: {image}: it is cut short or corrupt" in said
    assert "pulumi config rm sampan:image" in said
    assert registry.read(lab.name) is None


def test_a_libvirt_that_is_not_there_says_what_to_do(lab: VmLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "qemu+unix:///system?socket=/nowhere/libvirt-sock")
    said = refused(lab)
    assert "no libvirtd answers there" in said
    assert "correct the URI" in said


def test_a_name_of_a_lab_of_another_kind_is_refused(lab: VmLab) -> None:
    folder = registry.folder(lab.name)
    folder.mkdir(parents=True)
    (folder / "lab.json").write_text(f'{{"topology": {{"name": "{lab.name}"}}}}')
    said = refused(lab)
    assert f"name: '{lab.name}': is that of a local lab" in said


def test_what_a_killed_up_made_is_taken_away(lab: VmLab) -> None:
    lab.kill_up_at("pool made", "--backend", "libvirt", "--workers", "0")
    topology = lab.topology
    said = words(lab.sampan_said("down", "--name", lab.name, timeout_s=600))
    assert "an earlier command was killed" in said
    assert leftovers(lab, topology) == []


def test_a_lab_whose_state_is_gone_is_taken_away_and_nothing_else(lab: VmLab) -> None:
    lab.kill_up_at("pool made", "--backend", "libvirt", "--workers", "0")
    topology = lab.topology
    stacks = lab.state / ".pulumi/stacks/sampan"
    for file in stacks.glob(f"{lab.name}.*"):
        file.unlink()
    has_network = lab.name in lab.virsh("net-list", "--all", "--name").split()
    other = f"{lab.name}x"
    define(
        lab, "net-define", FOREIGN_NETWORK.format(name=other, bridge=f"gt{uuid.uuid4().hex[:8]}", address="10.250.0.1")
    )
    try:
        before = lab.virsh("net-dumpxml", other)
        said = words(lab.sampan_said("down", "--name", lab.name, timeout_s=600))
        made = [f"pool {lab.name}", f"folder {registry.folder(lab.name)}"]
        made += [f"network {lab.name}"] if has_network else []  # it is made beside the pool: before or after the kill
        for what in made:
            assert f"{what} removed, of which Pulumi's state knew nothing" in said, said
        assert f"Lab {lab.name} is gone." in said
        assert lab.virsh("net-dumpxml", other) == before
    finally:
        lab.virsh("net-undefine", other)
    assert leftovers(lab, topology) == []
    assert "nothing to do" in lab.sampan("down", "--name", lab.name)


def test_plain_pulumi_after_a_killed_up_is_told_who_holds_the_stack_and_goes_on_once_it_is_free(lab: VmLab) -> None:
    assert lab.environment  # a shell that was set up before
    lab.kill_up_at("pool made", "--backend", "libvirt", "--workers", "0")
    topology = lab.topology
    said = words(lab.pulumi("destroy", "--yes", check=False))
    assert "the stack is currently locked by 1 lock(s)" in said
    assert "delete the lock file with `pulumi cancel`" in said
    assert f"stack {lab.name} of sampan: a command was killed" in words(lab.sampan_said("toolchain", timeout_s=600))
    lab.pulumi("destroy", "--yes")
    lab.sampan("down", "--name", lab.name, timeout_s=600)
    assert leftovers(lab, topology) == []
