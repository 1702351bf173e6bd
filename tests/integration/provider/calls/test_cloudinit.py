"""Conformance of CloudInitDisk, against real libvirt: the image as a guest reads it, and what changes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.provider.calls.small_engine import Failed, Refused, Resource
from tests.unit.infra.provider.test_iso import read

New = Callable[..., Resource]
USER_DATA = "#cloud-config\nhostname: guest\n"


@pytest.fixture
def pool(resource: New, tmp_path: Path) -> Path:
    resource("Pool", "pool").up({"name": "pool", "type": "dir", "target": {"path": str(tmp_path / "pool")}})
    return tmp_path / "pool"


def file_in(image: Path, name: str) -> str:
    """By a reader that follows the standard on its own; a real guest reads one in tests/integration/vm."""
    return read(image.read_bytes())[1][name].decode()


def test_the_image_that_a_guest_reads(resource: New, pool: Path) -> None:
    disk = resource("CloudInitDisk", "seed")
    inputs = {"name": "seed.iso", "pool": "pool", "userData": USER_DATA, "metaData": "instance-id: a\n"}
    assert disk.up(inputs) == "create"
    image = pool / "seed.iso"
    assert disk.id == str(image)
    assert image.stat().st_mode & 0o777 == 0o600
    assert file_in(image, "user-data") == USER_DATA
    assert file_in(image, "meta-data") == "instance-id: a\n"
    label, files = read(image.read_bytes())
    assert (label, set(files)) == ("cidata", {"user-data", "meta-data"})
    assert disk.up(inputs) == "same"
    disk.delete()
    assert not image.exists()


def test_changed_data_are_written_in_place(resource: New, pool: Path, words: list[str]) -> None:
    disk = resource("CloudInitDisk", "seed")
    inputs = {"name": "seed.iso", "pool": "pool", "userData": USER_DATA}
    disk.up(inputs)
    id = disk.id
    network = "version: 2\nethernets: {}\n"
    assert disk.up({**inputs, "networkConfig": network}) == "update"
    assert disk.diff == {"networkConfig": "add"}
    assert disk.id == id
    assert file_in(pool / "seed.iso", "network-config") == network
    assert "cloud-init disk seed.iso: written in place; its guest reads it at its next boot" in words
    assert disk.up({**inputs, "name": "other.iso"}) == "replace"
    assert [each.name for each in pool.iterdir()] == ["other.iso"]


def test_gone_behind_pulumis_back(resource: New, pool: Path) -> None:
    disk = resource("CloudInitDisk", "seed")
    inputs = {"name": "seed.iso", "pool": "pool", "userData": USER_DATA}
    disk.up(inputs)
    (pool / "seed.iso").unlink()
    assert not disk.refresh()
    assert disk.up(inputs) == "create"
    assert disk.refresh()
    assert disk.up(inputs) == "same"


def test_its_pool_was_stopped(resource: New, pool: Path, connection: Any) -> None:
    """A stopped pool hides its volumes: they are not gone."""
    disk = resource("CloudInitDisk", "seed")
    inputs = {"name": "seed.iso", "pool": "pool", "userData": USER_DATA}
    disk.up(inputs)
    connection.storagePoolLookupByName("pool").destroy()
    assert disk.refresh()
    assert disk.up(inputs) == "same"


def test_a_foreign_image_of_that_name_is_left_alone(resource: New, pool: Path) -> None:
    (pool / "seed.iso").write_text("another's")
    disk = resource("CloudInitDisk", "seed")
    with pytest.raises(
        Failed, match=r"cloud-init disk seed.iso in pool pool is already there .* not touched.*vol-delete"
    ):
        disk.up({"name": "seed.iso", "pool": "pool", "userData": USER_DATA})
    assert (pool / "seed.iso").read_text() == "another's"
    (pool / "seed.iso").unlink()


def test_an_image_of_that_name_made_since_is_anothers(resource: New, pool: Path, connection: Any) -> None:
    """What a refresh found gone, the journal forgets: a file that took its place is not ours."""
    disk = resource("CloudInitDisk", "seed")
    inputs = {"name": "seed.iso", "pool": "pool", "userData": USER_DATA}
    disk.up(inputs)
    (pool / "seed.iso").unlink()
    assert not disk.refresh()
    (pool / "seed.iso").write_text("another's")
    connection.storagePoolLookupByName("pool").refresh()
    with pytest.raises(Failed, match="not touched"):
        disk.up(inputs)
    assert (pool / "seed.iso").read_text() == "another's"
    (pool / "seed.iso").unlink()


def test_what_a_killed_update_made_is_made_again(resource: New, pool: Path) -> None:
    disk = resource("CloudInitDisk", "seed")
    inputs = {"name": "seed.iso", "pool": "pool", "userData": USER_DATA}
    disk.up(inputs)
    disk.forget()
    assert disk.up({**inputs, "userData": "#cloud-config\nhostname: other\n"}) == "create"
    assert file_in(pool / "seed.iso", "user-data") == "#cloud-config\nhostname: other\n"


def test_no_pool_of_that_name(resource: New) -> None:
    with pytest.raises(
        Failed, match=r"cloud-init disk seed.iso: there is no storage pool nowhere .*virsh pool-define-as"
    ):
        resource("CloudInitDisk", "seed").up({"name": "seed.iso", "pool": "nowhere", "userData": USER_DATA})


def test_what_is_no_yaml_is_refused_without_being_told(resource: New) -> None:
    with pytest.raises(Refused) as refused:
        resource("CloudInitDisk", "seed").up({"name": "s", "userData": "#cloud-config\npassword: [hunter2\n"})
    (words,) = refused.value.failures.values()
    assert words.startswith("cloud-init disk s: userData = [secret]: is no YAML in line 3")
    assert "hunter2" not in words
