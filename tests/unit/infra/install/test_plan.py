"""From facts to the steps that are missing: all on a bare machine, none on one that is as wanted."""

from __future__ import annotations

import io
import tarfile
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra import pki
from infra.images.sysctls import SYSCTLS
from infra.install import plan, release, vm
from infra.install.facts import Facts, SeenUnit
from infra.install.machine import SERVER_USER_ID, Folder, digest
from infra.topology import Topology

LAB = Topology(backend="libvirt", workers=1)
NODE = LAB.node("worker-1")
KEYS = pki.generate(LAB, {}, datetime(2026, 1, 1, tzinfo=UTC))
WISH = vm.wanted(LAB, NODE, KEYS, None)
BARE = Facts(
    files={}, folders={}, units={}, our_units=(), users={"root": 0}, ranges=("", ""), lingers=False,
    settings=dict.fromkeys(SYSCTLS, "0"), release="", releases=(), python=release.CACHE_TAG, system="debian 13",
    init="systemd", has_cgroup2=True, lacking=(),
)  # fmt: skip
INSTALLED = replace(
    BARE,
    files={file.path: (digest(file), file.mode, file.user_id, file.group_id) for file in WISH.all_files},
    folders={folder.path: (folder.user_id, folder.group_id, folder.mode) for folder in WISH.folders},
    units={unit.name: SeenUnit(is_active=True, is_enabled=True, inputs=unit.inputs) for unit in WISH.units},
    our_units=tuple(unit.name for unit in WISH.units if unit.name.endswith(".service")),
    users={"root": 0, "sampan": NODE.user_id, "sampan-server": SERVER_USER_ID},
    ranges=(f"{plan.ranges_line(NODE)}\n",) * 2,
    lingers=True,
    settings=dict(SYSCTLS),
)


def titles(seen: Facts, wish: vm.Wanted = WISH) -> list[str]:
    return [step.title for step in vm.steps(wish, seen)]


def test_a_bare_machine_gets_everything_in_order() -> None:
    assert titles(BARE) == [
        "user sampan, its ids and its session",
        "folders",
        f"configuration ({len(WISH.all_files)} files)",
        "kernel modules and settings",
        "starting podman, node, kubelet",
    ]


def test_an_installed_machine_gets_nothing() -> None:
    assert titles(INSTALLED) == []


def without(path: str) -> Facts:
    return replace(INSTALLED, files={other: seen for other, seen in INSTALLED.files.items() if other != path})


def with_unit(name: str, **more: object) -> Facts:
    seen = replace(INSTALLED.units[name], **more)  # type: ignore[arg-type]
    return replace(INSTALLED, units={**INSTALLED.units, name: seen})


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        pytest.param(without("/etc/sampan/kubelet.yaml"), ["configuration (kubelet.yaml)"], id="a-file-is-missing"),
        pytest.param(
            with_unit("sampan-kubelet.service", inputs="of-something-else"),
            ["starting kubelet"],
            id="files-were-laid-down-but-it-broke-off-before-the-start",
        ),
        pytest.param(with_unit("sampan-node.service", is_active=False, inputs=""), ["starting node"], id="one-is-down"),
        pytest.param(with_unit("sampan-podman.service", is_enabled=False), ["units"], id="one-would-not-come-at-boot"),
        pytest.param(
            with_unit("usr-share-sampan-images.mount", is_active=False), ["units"], id="images-are-not-mounted"
        ),
        pytest.param(
            replace(INSTALLED, users={**INSTALLED.users, "sampan": 1000}),
            ["user sampan, its ids and its session"],
            id="the-user-has-another-id",
        ),
        pytest.param(
            replace(INSTALLED, lingers=False), ["user sampan, its ids and its session"], id="no-session-at-boot"
        ),
        pytest.param(
            replace(INSTALLED, settings={**SYSCTLS, "net/ipv4/ip_forward": "0"}),
            ["kernel modules and settings"],
            id="a-kernel-setting-is-another",
        ),
        pytest.param(
            replace(INSTALLED, folders={**INSTALLED.folders, "/var/lib/sampan": (0, 0, 0o700)}),
            ["folders"],
            id="a-folder-has-another-mode",
        ),
        pytest.param(
            replace(INSTALLED, our_units=(*INSTALLED.our_units, "sampan-server.service")),
            ["units"],
            id="a-unit-is-left-from-another-role",
        ),
    ],
)
def test_only_what_differs_is_done(seen: Facts, wanted: list[str]) -> None:
    assert titles(seen) == wanted


def test_a_setting_that_the_kernel_does_not_have_is_not_tried_again() -> None:
    assert titles(replace(INSTALLED, settings={**SYSCTLS, "net/bridge/bridge-nf-call-iptables": ""})) == []


def test_a_wrong_id_is_taken_away_before_the_right_one_is_made() -> None:
    (step,) = plan.accounts(NODE, replace(INSTALLED, users={"sampan": 1000, "sampan-server": SERVER_USER_ID}))
    script = step.stdin.decode()
    assert "sed -i '/^sampan:/d' /etc/passwd" in script
    assert "/^sampan-server:/d" not in script
    assert script.index("/^sampan:/d") < script.index(f"u sampan {NODE.user_id}")


def test_a_number_that_is_somebody_elses_is_refused() -> None:
    """systemd-sysusers would give the server another, and its own folder would be closed to it."""
    assert plan.taken(NODE, INSTALLED) == ""
    clashing = replace(INSTALLED, users={"root": 0, "polkitd": SERVER_USER_ID})
    wanted = f"user id {SERVER_USER_ID}, which sampan-server needs, is that of polkitd: give polkitd another"
    assert plan.taken(NODE, clashing) == wanted


def test_what_the_server_wrote_under_another_number_is_its_own_again() -> None:
    store = Folder(path="/var/lib/sampan/store", user_id=SERVER_USER_ID, group_id=SERVER_USER_ID, mode=0o700)
    (step,) = plan.folders([store], replace(INSTALLED, folders={store.path: (990, 990, 0o700)}))
    assert f"chown -R {SERVER_USER_ID}:{SERVER_USER_ID} {store.path}" in step.stdin.decode()
    (step,) = plan.folders([store], replace(INSTALLED, folders={}))
    assert "chown" not in step.stdin.decode()


def test_a_unit_of_another_role_is_stopped_and_removed() -> None:
    (step,) = plan.units(WISH.units, replace(INSTALLED, our_units=("sampan-server.service",)))
    assert "systemctl disable --now sampan-server.service" in step.stdin.decode()
    assert "restart " not in step.stdin.decode()


def test_files_travel_in_one_archive_with_their_owners() -> None:
    (step,) = plan.files(WISH.all_files, BARE)
    with tarfile.open(fileobj=io.BytesIO(step.stdin)) as archive:
        key = archive.getmember("etc/sampan/pki/kubelet.key")
    assert (key.mode, key.uid) == (0o600, NODE.user_id)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(BARE, init="catatonit"), "process 1 is catatonit: a node needs systemd"),
        (replace(BARE, has_cgroup2=False), "cgroup v2"),
        (replace(BARE, lacking=("podman", "crun")), "podman, crun not found"),
    ],
)
def test_what_no_step_can_mend_is_refused(facts: Facts, words: str) -> None:
    with pytest.raises(vm.InstallError, match=f"node worker-1: .*{words}"):
        vm.refuse("worker-1", facts)


def wheel(place: Path, **contents: str) -> Path:
    with zipfile.ZipFile(place, "w") as archive:
        for name, text in contents.items():
            archive.writestr(name.replace("__", "/") + ".py", text)
    return place


def test_the_release_is_named_by_the_components_code_alone(tmp_path: Path) -> None:
    one = release.of_wheel(wheel(tmp_path / "a.whl", orchestrator__a="x = 1", infra__b="y = 1"))
    same = release.of_wheel(wheel(tmp_path / "b.whl", orchestrator__a="x = 1", infra__b="y = 2"))
    other = release.of_wheel(wheel(tmp_path / "c.whl", orchestrator__a="x = 2", infra__b="y = 1"))
    assert one.name == same.name != other.name


def test_a_release_is_switched_to_once(tmp_path: Path) -> None:
    made = release.of_wheel(wheel(tmp_path / "a.whl", orchestrator__a="x = 1"))
    assert plan.switch(made, replace(BARE, release=f"releases/{made.name}")) == []
    (step,) = plan.switch(made, replace(BARE, release="releases/before", releases=("old", "before", made.name)))
    script = step.stdin.decode()
    assert "rm -rf releases/old" in script
    assert "releases/before" not in script


def test_another_python_compiles_for_itself(tmp_path: Path) -> None:
    made = release.of_wheel(wheel(tmp_path / "a.whl", orchestrator__a="x = 1"))
    assert "compileall" not in release.unpack_script(made, release.CACHE_TAG)
    assert "compileall" in release.unpack_script(made, "cpython-311")
