"""Conformance of Ignition and Combustion, against real libvirt: the file, what changes it, and a domain that has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.provider.calls.small_engine import Failed, Refused, Resource

New = Callable[..., Resource]
CONTENT = {
    "Ignition": ('{"ignition": {"version": "3.4.0"}}', '{"ignition": {"version": "3.5.0"}}'),
    "Combustion": ("#!/bin/sh\nhostname a\n", "#!/bin/sh\nhostname b\n"),
}
KINDS = pytest.mark.parametrize("kind", CONTENT)


@pytest.fixture
def pool(resource: New, tmp_path: Path) -> Path:
    resource("Pool", "pool").up({"name": "pool", "type": "dir", "target": {"path": str(tmp_path / "pool")}})
    return tmp_path / "pool"


@KINDS
def test_the_file_that_a_guest_reads(resource: New, pool: Path, words: list[str], kind: str) -> None:
    first, second = CONTENT[kind]
    made = resource(kind, "first")
    inputs = {"name": "first", "pool": "pool", "content": first}
    assert made.up(inputs) == "create"
    file = pool / "first"
    assert made.id == str(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == first
    assert made.up(inputs) == "same"
    assert made.up({**inputs, "content": second}) == "update"
    assert file.read_text() == second
    assert [line for line in words if line.endswith("first: written in place; its guest reads it at its first boot")]
    assert made.up({**inputs, "name": "other"}) == "replace"
    assert [each.name for each in pool.iterdir()] == ["other"]
    made.delete()
    assert list(pool.iterdir()) == []


@KINDS
def test_a_file_of_this_machine_can_have_it(resource: New, pool: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "content").write_text(CONTENT[kind][0])
    resource(kind, "first").up({"name": "first", "pool": "pool", "content": str(tmp_path / "content")})
    assert (pool / "first").read_text() == CONTENT[kind][0]


@KINDS
def test_gone_and_foreign(resource: New, pool: Path, connection: Any, kind: str) -> None:
    made = resource(kind, "first")
    inputs = {"name": "first", "pool": "pool", "content": CONTENT[kind][0]}
    made.up(inputs)
    (pool / "first").unlink()
    assert not made.refresh()
    (pool / "first").write_text("another's")
    connection.storagePoolLookupByName("pool").refresh()
    with pytest.raises(Failed, match="not touched"):
        made.up(inputs)
    (pool / "first").unlink()


@KINDS
def test_a_domain_that_runs_with_it(resource: New, pool: Path, connection: Any, kind: str) -> None:
    made = resource(kind, "first")
    made.up({"name": "first", "pool": "pool", "content": CONTENT[kind][0]})
    domain = resource("Domain", "dom")
    given = {"coreosIgnition": made.id, "fwCfgName": f"opt/test.{kind.lower()}/file"}
    domain.up({"name": "dom", "type": "qemu", "memory": 64, **given})
    there = connection.lookupByName("dom")
    assert there.isActive()
    assert f"name='opt/test.{kind.lower()}/file' file='{made.id}'" in there.XMLDesc()


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        pytest.param("Ignition", "hunter2", "must be a JSON object, or a file that has one", id="no-json"),
        pytest.param("Ignition", '["hunter2"]', "must be a JSON object, or a file that has one", id="a-list"),
        pytest.param("Combustion", "hunter2", "must be a script that begins with #!", id="no-script"),
        pytest.param("Combustion", "hunter2" * 1000, "must be a script that begins with #!", id="long-text"),
    ],
)
def test_what_is_none_is_refused_without_being_told(resource: New, kind: str, content: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        resource(kind, "x").up({"name": "x", "content": content})
    (words,) = refused.value.failures.values()
    assert said in words
    assert "hunter2" not in words
