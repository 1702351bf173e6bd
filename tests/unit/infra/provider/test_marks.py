"""Marks: what was put is found, and whose it is."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from infra.provider import journal, marks


def test_what_was_put_is_found() -> None:
    root = ET.fromstring("<domain><name>a</name><metadata><x xmlns='urn:y'/></metadata></domain>")
    put = marks.put(root, "urn:pulumi:a::b::c::d", "boot", frozenset({"disk /a", "interface b"}))
    assert marks.find(marks.text_of(root)) == put
    assert put.owner == ("urn:pulumi:a::b::c::d", marks.origin())
    assert root.find("metadata/{urn:y}x") is not None


def test_no_mark() -> None:
    assert marks.find("<domain><metadata><mark urn='x'/></metadata></domain>") is None


def test_another_definition_is_another_mark() -> None:
    one, other = (marks.put(ET.fromstring(f"<network><name>{name}</name></network>"), "urn") for name in "ab")
    assert one != other
    assert one.owner == other.owner


def test_its_text_for_libvirt_has_no_name_space() -> None:
    root = ET.fromstring("<domain/>")
    text = marks.plain(marks.put(root, "urn", devices=frozenset({"disk /a"})))
    assert text.startswith("<mark ")
    assert "<device>disk /a</device>" in text


def test_another_state_is_another_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", "file:///a")
    first = marks.origin()
    monkeypatch.setenv("PULUMI_BACKEND_URL", "file:///b")
    assert marks.origin() != first


def test_the_journal_knows_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path))
    place = journal.key("qemu:///system", "pool", "volume")
    assert journal.mine(place, "urn") is None
    journal.begin(place, "urn", "hash", made_folder="/a")
    record = journal.mine(place, "urn")
    assert record is not None
    assert (record.complete, record.made_folder) == (False, "/a")
    journal.complete(place, "urn", "hash")
    assert (record := journal.mine(place, "urn")) is not None and record.complete
    assert journal.mine(place, "another") is None
    assert journal.mine(journal.key("qemu:///session", "pool", "volume"), "urn") is None
    journal.end(place)
    assert journal.mine(place, "urn") is None
    journal.end(place)


def test_a_journal_that_cannot_be_read_knows_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path))
    journal.begin("place", "urn", "hash")
    next((tmp_path / "sampan-libvirt").glob("*.json")).write_text('{"urn": 1')
    assert journal.mine("place", "urn") is None
