"""CloudInitDisk: an image with cloud-init's user data, meta data and network configuration (data source NoCloud).

Changed data are written in place: a running guest keeps the old image until its next boot, and is neither replaced nor
restarted. All three are secrets in the state, since user data tend to hold keys.
Source: https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import msgspec
import yaml

from infra.provider import iso, journal, marks
from infra.provider.network_xml import Part
from infra.provider.properties import Values
from infra.provider.refresh import drifted
from infra.provider.resource import Context, Failure
from infra.provider.storage import (
    find_volume,
    patiently,
    pool_named,
    qemu_user,
    remove_volume,
    turn,
    upload,
    volume_named,
)
from infra.provider.volume import claim, remove
from infra.provider.volume_xml import Shape, build

LABEL = "cidata"
DATA = {"user-data": "userData", "meta-data": "metaData", "network-config": "networkConfig"}


class CloudInitInputs(Part, frozen=True):
    name: str = ""
    pool: str = "default"
    user_data: str = ""
    meta_data: str = ""
    network_config: str = ""


class CloudInitDisk:
    token = "libvirt:index/cloudInitDisk:CloudInitDisk"
    word = "cloud-init disk"
    inputs = CloudInitInputs
    defaults = {"pool": "default"}
    replaces = frozenset({"name", "pool"})
    replaces_if_unknown: frozenset[str] = frozenset()
    computed: frozenset[str] = frozenset()
    secret = frozenset(DATA.values())

    def normalize(self, inputs: Values) -> Values:
        return inputs

    def check(self, inputs: Values, old: Values) -> list[Failure]:
        failures = []
        for name in DATA.values():
            text = inputs.get(name) or ""
            is_yaml = name != "userData" or text.startswith("#cloud-config")
            if is_yaml and (fault := _fault(text)):
                failures.append(Failure(name, fault))
        return failures

    def consequences(self, changed: frozenset[str], old: Values, new: Values) -> list[str]:
        return [f"cloud-init disk {new.get('name')}: written in place; its guest reads it at its next boot"]

    def create(self, context: Context, inputs: Values) -> tuple[str, Values]:
        disk = msgspec.convert(inputs, CloudInitInputs)
        place = journal.key(context.uri, disk.pool, disk.name)
        content = image(disk)
        with turn(context.uri, disk.pool):
            pool = pool_named(context, disk.pool, why=f"cloud-init disk {disk.name}")
            if (found := claim(context, pool, disk.name, place, "", word=self.word)) is not None:
                remove_volume(found)
            found = _write(context, pool, disk.name, content, place)
        return found.key(), dict(inputs)

    def read(self, context: Context, id: str, inputs: Values, outputs: Values) -> tuple[str, Values, Values] | None:
        with turn(context.uri, outputs.get("pool", "")):
            found = find_volume(context.connection, id.partition(";")[0], outputs.get("pool", ""))
        if found is None:
            journal.end(journal.key(context.uri, outputs.get("pool", ""), outputs.get("name", "")))
            return None
        seen = {"name": found.name(), "pool": found.storagePoolLookupByVolume().name()}
        now = drifted(inputs, seen) if inputs else seen
        return found.key(), now, {**outputs, **now}

    def update(self, context: Context, id: str, old: Values, outputs: Values, inputs: Values) -> Values:
        disk = msgspec.convert(inputs, CloudInitInputs)
        place = journal.key(context.uri, disk.pool, disk.name)
        content = image(disk)
        with turn(context.uri, disk.pool):
            pool = pool_named(context, disk.pool, why=f"cloud-init disk {disk.name}")
            if (found := volume_named(pool, disk.name)) is not None:
                remove_volume(found)  # a running guest has it open, and keeps it
            _write(context, pool, disk.name, content, place)
        return dict(inputs)

    def delete(self, context: Context, id: str, outputs: Values) -> None:
        remove(context, id.partition(";")[0], outputs)


def image(disk: CloudInitInputs) -> bytes:
    """NoCloud wants user data and meta data, be they empty; a network configuration only if there is one."""
    files = {"user-data": disk.user_data.encode(), "meta-data": disk.meta_data.encode()}
    if disk.network_config:
        files["network-config"] = disk.network_config.encode()
    return iso.image(LABEL, files)


def _fault(text: str) -> str:
    """Where the YAML is wrong; its words are not repeated, for they may be secret."""
    try:
        yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        return f"is no YAML{where}: {error.problem}"
    except yaml.YAMLError:
        return "is no YAML"
    return ""


def _write(context: Context, pool: Any, name: str, content: bytes, place: str) -> Any:
    """The journal gets no hash of the content: one of a short secret would tell it."""
    journal.begin(place, context.urn, "")
    kind = ET.fromstring(pool.XMLDesc(0)).get("type", "dir")
    definition = marks.text_of(build(Shape(name, len(content), "raw", kind, qemu_user(context))))
    found = patiently(lambda: pool.createXML(definition, 0))
    try:
        upload(context, found, iter([content]), len(content), f"cloud-init disk {name}")
    except BaseException:
        remove_volume(found)
        journal.end(place)
        raise
    journal.complete(place, context.urn, "")
    return found
