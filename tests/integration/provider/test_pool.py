"""Conformance of Pool: every property of the SDK's schema, against real libvirt through the real CLI."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.provider.stacks import Declared, Stack, declare

XSLT = """<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
<xsl:template match="@*|node()"><xsl:copy><xsl:apply-templates select="@*|node()"/></xsl:copy></xsl:template>
<xsl:template match="target/path"><path><xsl:value-of select="."/>-%s</path></xsl:template></xsl:stylesheet>"""


def pool(name: str, folder: Path | None = None, /, **properties: Any) -> Declared:
    target = {"target": {"path": str(folder)}} if folder is not None else {}
    return declare("Pool", name, **{"name": name, "type": "dir", **target, **properties})


def path_of(connection: Any, name: str) -> str | None:
    return ET.fromstring(connection.storagePoolLookupByName(name).XMLDesc()).findtext("target/path")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pools")


def wanted(place: Path, *, changed: bool) -> list[Declared]:
    (place / "there").mkdir(exist_ok=True)
    if not changed:
        return [
            pool("name", place / "name"),
            pool("target", place / "deep/in/one"),
            pool("spelling", path=f"{place}/spelling/"),
            pool("xslt", place / "xslt", xml={"xslt": XSLT % "one"}),
            pool("there", place / "there"),
            pool("filled", place / "filled"),
        ]
    return [
        pool("name", place / "name", name="renamed"),
        pool("target", place / "deep/in/two"),
        pool("spelling", place / "spelling"),  # the deprecated spelling of the same
        pool("xslt", place / "xslt", xml={"xslt": XSLT % "two"}),
        pool("there", place / "there"),
        pool("filled", place / "filled"),
    ]


@pytest.fixture(scope="module")
def before(stack: Stack, place: Path) -> dict[str, str]:
    """The UUIDs after the first update."""
    run = stack.up(wanted(place, changed=False))
    assert set(run.operations.values()) == {"create"}
    return {name: stack.state(name)["id"] for name in run.operations}


@pytest.fixture(scope="module")
def changes(before: dict[str, str], stack: Stack, place: Path) -> dict[str, str]:
    assert stack.up(wanted(place, changed=False), "--expect-no-changes").unlike_same == {}
    announced = stack.preview(wanted(place, changed=True)).operations
    made = stack.up(wanted(place, changed=True)).operations
    assert announced == made
    return made


def test_what_a_change_of_each_property_does(changes: dict[str, str]) -> None:
    assert changes == {
        "name": "replace",
        "target": "replace",
        "xslt": "replace",
        "spelling": "same",
        "there": "same",
        "filled": "same",
    }


def test_libvirt_has_them_active_and_started_at_boot(changes: dict[str, str], connection: Any, place: Path) -> None:
    names = {each.name(): each for each in connection.listAllStoragePools()}
    assert {name: path_of(connection, name) for name in names} == {
        "renamed": f"{place}/name",
        "target": f"{place}/deep/in/two",
        "spelling": f"{place}/spelling",
        "xslt": f"{place}/xslt-two",
        "there": f"{place}/there",
        "filled": f"{place}/filled",
    }
    assert all(each.isActive() and each.autostart() for each in names.values())


def test_a_folder_that_a_pool_made_goes_with_it(changes: dict[str, str], place: Path) -> None:
    assert (place / "deep/in/two").is_dir()
    assert not (place / "deep/in/one").exists()
    assert not (place / "xslt-one").exists()


def test_the_outputs_have_libvirts_figures(changes: dict[str, str], stack: Stack) -> None:
    outputs = stack.state("there")["outputs"]
    assert outputs["capacity"] == outputs["allocation"] + outputs["available"] > 0


def test_what_changed_behind_pulumis_back_is_found_and_undone(
    changes: dict[str, str], connection: Any, stack: Stack, place: Path
) -> None:
    lookup = connection.storagePoolLookupByName
    gone = lookup("target").UUIDString()
    lookup("target").destroy()
    lookup("target").undefine()
    lookup("there").destroy()
    found = stack.refresh()
    assert found.operations["target"] == "delete"
    assert "pool there is not active; the next update starts it" in found.output
    run = stack.up(wanted(place, changed=True))
    assert run.unlike_same == {"target": "create", "there": "update"}
    assert lookup("target").UUIDString() == gone  # a pool's UUID is its mark
    assert lookup("there").isActive()
    assert stack.refresh().unlike_same == {}


def test_an_update_that_was_killed_before_it_wrote_its_state_is_taken_over(
    changes: dict[str, str], connection: Any, stack: Stack, place: Path
) -> None:
    same = stack.state("spelling")["id"]
    stack.forget("spelling")
    run = stack.up(wanted(place, changed=True))
    assert run.unlike_same == {"spelling": "create"}
    assert "an update that was cut short made it; it is taken over" in run.diagnostics["spelling"]
    assert stack.state("spelling")["id"] == same


def test_a_foreign_pool_is_refused_untouched_and_can_be_imported(
    new_stack: Callable[[str], Stack], connection: Any, tmp_path: Path
) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/precious").write_text("mine")
    definition = f"<pool type='dir'><name>foreign</name><target><path>{tmp_path}/foreign</path></target></pool>"
    there = connection.storagePoolDefineXML(definition)
    there.create()
    before = there.XMLDesc()
    stack = new_stack("importing")
    same = pool("foreign", tmp_path / "foreign")
    refused = stack.up([same], fails=True)
    assert "pool foreign is already there on" in refused.output
    assert "this stack did not make it; it was not touched" in refused.output
    clash = stack.up([pool("another", tmp_path / "foreign")], fails=True)
    assert f"the folder {tmp_path}/foreign is that of the pool foreign" in clash.output
    assert there.XMLDesc() == before
    stack.adopt("Pool", "foreign", "foreign")
    run = stack.up([same])
    assert run.unlike_same == {}, run.changed
    assert stack.destroy().operations == {"foreign": "delete"}
    assert (tmp_path / "foreign/precious").read_text() == "mine"
    assert "foreign" not in {each.name() for each in connection.listAllStoragePools()}


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        pytest.param({"type": "zfs"}, "type", id="a-type-that-is-none"),
        pytest.param({"target": {"path": "pools"}}, "a pool of type dir needs a folder of the host", id="no-full-path"),
        pytest.param({"target": {"path": "/x"}, "capacity": 5}, "is what libvirt counts", id="a-figure"),
        pytest.param({"type": "logical"}, "needs the volume group's name", id="no-volume-group"),
        pytest.param(
            {"target": {"path": "/x"}, "source": {"name": "vg"}}, "a pool of type dir has none", id="a-source"
        ),
    ],
)
def test_a_wrong_value_is_named_in_the_preview(wrong: Stack, properties: dict[str, Any], said: str) -> None:
    assert said in wrong.preview([pool("wrong", **properties)], fails=True).output


def test_a_place_that_cannot_be_used_is_told_and_leaves_nothing(
    new_stack: Callable[[str], Stack], connection: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    stack = new_stack("unusable")
    run = stack.up([pool("blocked", tmp_path / "file/below")], fails=True)
    assert f"pool blocked: {tmp_path}/file/below cannot be used" in run.output
    group = stack.up([pool("group", type="logical", source={"name": "sampan-no-such-group"})], fails=True)
    assert "pool group: volume group sampan-no-such-group cannot be used" in group.output
    assert {"blocked", "group"} & {each.name() for each in connection.listAllStoragePools()} == set()


def test_destroy_leaves_what_was_there_before_and_what_others_put_there(
    changes: dict[str, str], connection: Any, stack: Stack, place: Path
) -> None:
    (place / "filled/notes").write_text("somebody's")
    destroyed = stack.destroy()
    assert set(destroyed.operations.values()) == {"delete"}
    assert "its folder" in destroyed.output
    assert (place / "filled/notes").read_text() == "somebody's"
    assert (place / "there").is_dir()
    assert not (place / "deep/in/two").exists()
    assert not (place / "spelling").exists()
    assert connection.listAllStoragePools() == []
