"""Pool: a libvirt storage pool (a directory, or an LVM volume group), active and started with libvirtd.

A pool that we made carries a UUID derived from the URN and the origin: that is its mark. Its folder is removed at the
end only if it was not there before, and only empty: volumes that others put there stay, and the user is told.
Source: https://libvirt.org/formatstorage.html
"""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Literal

import msgspec

from infra.provider import journal, marks, xslt
from infra.provider.binding import libvirt
from infra.provider.network_xml import Part, Xml
from infra.provider.properties import Values
from infra.provider.refresh import drifted, observable, without_none
from infra.provider.resource import Context, Failure, InitializationFailed, ProviderError
from infra.provider.storage import find_pool, look_again, patiently, turn

MARKS = uuid.UUID("c2c1a3a8-9a37-5b5e-9f0c-3f1f6f1b9a52")  # the name space of our pools' UUIDs


class Device(Part, frozen=True):
    path: str = ""


class Source(Part, frozen=True):
    devices: tuple[Device, ...] = ()
    name: str = ""


class Target(Part, frozen=True):
    path: str = ""


class PoolInputs(Part, frozen=True):
    type: Literal["dir", "logical"]
    allocation: int | None = None
    available: int | None = None
    capacity: int | None = None
    name: str = ""
    path: str = ""
    source: Source = Source()
    target: Target = Target()
    xml: Xml = Xml()

    @property
    def place(self) -> str:
        return (self.target.path or self.path).rstrip("/")


class Pool:
    token = "libvirt:index/pool:Pool"
    word = "pool"
    inputs = PoolInputs
    defaults: dict[str, Any] = {}
    replaces = frozenset({"name", "type", "path", "source", "target", "xml"})
    replaces_if_unknown: frozenset[str] = frozenset()
    computed = frozenset({"allocation", "available", "capacity"})
    secret: frozenset[str] = frozenset()

    def normalize(self, inputs: Values) -> Values:
        """One place for the folder: `path` is the deprecated spelling of `target.path`."""
        inputs = {name: value for name, value in inputs.items() if name != "path"} | (
            {"target": {"path": inputs["path"]}} if inputs.get("path") else {}
        )
        target = inputs.get("target")
        if isinstance(target, dict) and isinstance(target.get("path"), str):
            inputs["target"] = {"path": target["path"].rstrip("/") or "/"}
        return inputs

    def check(self, inputs: Values, old: Values) -> list[Failure]:
        pool = msgspec.convert(inputs, PoolInputs, strict=False)
        failures = [
            Failure(name, "is what libvirt counts, not what one asks")
            for name in ("allocation", "available", "capacity")
            if inputs.get(name) is not None
        ]
        if pool.path and pool.target.path and pool.path != pool.target.path:
            failures.append(Failure("path", f"is the deprecated spelling of target.path, which is {pool.target.path}"))
        if pool.type == "dir":
            if not pool.place.startswith("/"):
                failures.append(Failure("target.path", "a pool of type dir needs a folder of the host, as a full path"))
            if pool.source != Source():
                failures.append(Failure("source", "a pool of type dir has none: target.path says where it is"))
        if pool.type == "logical" and not pool.source.name:
            failures.append(Failure("source.name", "a pool of type logical needs the volume group's name"))
        if pool.xml.xslt and not xslt.is_possible():
            failures.append(
                Failure("xml.xslt", "needs lxml or the program xsltproc (Debian: xsltproc), and neither is there")
            )
        return failures

    def consequences(self, changed: frozenset[str], old: Values, new: Values) -> list[str]:
        return []

    def create(self, context: Context, inputs: Values) -> tuple[str, Values]:
        pool = msgspec.convert(inputs, PoolInputs, strict=False)
        mark = mark_of(context.urn, pool.name)
        definition = marks.text_of(build(pool, mark))
        if pool.xml.xslt:
            definition = xslt.transform(definition, pool.xml.xslt)
        place = journal.key(context.uri, pool.name)
        with turn(context.uri, pool.name):
            found = find_pool(context.connection, pool.name)
            is_new = found is None
            if found is not None and found.UUIDString() != mark:
                remedy = f"virsh pool-destroy {pool.name}; virsh pool-undefine {pool.name}"
                raise ProviderError(marks.foreign(self.word, pool.name, context.uri, None, remedy))
            if found is not None:
                context.note(f"pool {pool.name}: an update that was cut short made it; it is taken over")
            else:
                _refuse_same_folder(context.connection, pool)
                found = context.connection.storagePoolDefineXML(definition, 0)
            record = journal.mine(place, context.urn)
            made_before = record.made_folder if record else ""
            made = _start(context, found, pool, place, made_before=made_before, is_new=is_new)
            found.setAutostart(1)
            journal.complete(place, context.urn, marks.digest(definition), made_folder=made)
        return found.UUIDString(), {**inputs, **_figures(found)}

    def read(self, context: Context, id: str, inputs: Values, outputs: Values) -> tuple[str, Values, Values] | None:
        found = find_pool(context.connection, id)
        if found is None:
            return None
        seen = observable(inputs, parse(found.XMLDesc(0)))
        now = drifted(inputs, seen) if inputs else without_none(seen)
        # Free space changes by the minute: the figures are those of the last change, or every refresh would find one.
        figures = {name: outputs[name] for name in self.computed if name in outputs} or _figures(found)
        kept = {**now, **figures}
        if not found.isActive():
            reason = f"pool {found.name()} is not active; the next update starts it"
        elif not look_again(found):
            reason = f"the folder of pool {found.name()} is gone; the next update makes it"
        else:
            reason = ""
        if reason:
            raise InitializationFailed(reason, found.UUIDString(), kept, now)
        return found.UUIDString(), now, kept

    def update(self, context: Context, id: str, old: Values, outputs: Values, inputs: Values) -> Values:
        found = find_pool(context.connection, id)
        if found is None:
            raise ProviderError(f"pool {inputs['name']} has gone: run pulumi refresh, then pulumi up")
        pool = msgspec.convert(inputs, PoolInputs, strict=False)
        with turn(context.uri, pool.name):
            _start(context, found, pool, journal.key(context.uri, pool.name), made_before="", is_new=False)
            patiently(lambda: found.refresh())
        return {**inputs, **_figures(found)}

    def delete(self, context: Context, id: str, outputs: Values) -> None:
        found = find_pool(context.connection, id)
        name = outputs.get("name", id)
        place = journal.key(context.uri, name)
        if found is not None:
            record = journal.mine(place, context.urn)
            with turn(context.uri, name):
                _remove(context, found, made_folder=record.made_folder if record else "")
        journal.end(place)


def mark_of(urn: str, name: str) -> str:
    return str(uuid.uuid5(MARKS, f"{marks.origin()}\0{urn}\0{name}"))


def build(pool: PoolInputs, mark: str) -> ET.Element:
    root = ET.Element("pool", type=pool.type)
    ET.SubElement(root, "name").text = pool.name
    ET.SubElement(root, "uuid").text = mark
    if pool.type == "logical":
        source = ET.SubElement(root, "source")
        for device in pool.source.devices:
            ET.SubElement(source, "device", path=device.path)
        ET.SubElement(source, "name").text = pool.source.name
    place = pool.place or (f"/dev/{pool.source.name}" if pool.type == "logical" else "")
    ET.SubElement(ET.SubElement(root, "target"), "path").text = place
    return root


def parse(text: str) -> Values:
    root = ET.fromstring(text)
    devices = [{"path": device.get("path", "")} for device in root.findall("source/device")]
    source: Values = {"name": root.findtext("source/name")}
    if devices:
        source["devices"] = devices
    return {
        "name": root.findtext("name") or "",
        "type": root.get("type", ""),
        "target": {"path": root.findtext("target/path") or ""},
        "source": source if source["name"] else None,
    }


def _start(context: Context, pool: Any, wanted: PoolInputs, place: str, *, made_before: str, is_new: bool) -> str:
    """Active afterwards. The topmost folder that was not there, if building the pool made it; empty otherwise.

    A pool that is new and cannot be started is not left behind.
    """
    if pool.isActive():
        return made_before
    try:
        pool.create(0)
        return made_before
    except libvirt.libvirtError as error:
        if wanted.type == "logical" and not wanted.source.devices:  # a volume group that is said to be there
            raise _unusable(context, pool, wanted, error, is_new=is_new) from error
    made = _topmost_missing(wanted.place) if wanted.type == "dir" else wanted.source.name
    journal.begin(place, context.urn, "", made_folder=made)
    try:
        pool.build(0 if wanted.type == "dir" else libvirt.VIR_STORAGE_POOL_BUILD_NO_OVERWRITE)
        pool.create(0)
    except libvirt.libvirtError as error:
        if is_new:
            journal.end(place)
        raise _unusable(context, pool, wanted, error, is_new=is_new) from error
    return made


def _unusable(context: Context, pool: Any, wanted: PoolInputs, error: Any, *, is_new: bool) -> ProviderError:
    if is_new:
        pool.undefine()
    where = f"volume group {wanted.source.name}" if wanted.type == "logical" else wanted.place
    return ProviderError(
        f"pool {wanted.name}: {where} cannot be used: {error.get_error_message()}. "
        f"It must be a place that libvirtd on {context.uri} can make or use."
    )


def _remove(context: Context, pool: Any, *, made_folder: str) -> None:
    name = pool.name()
    path = parse(pool.XMLDesc(0))["target"]["path"]
    left, is_there = [], True
    if made_folder or pool.isActive():  # only of an active pool libvirt knows what is in it
        is_there = look_again(pool)
        left = sorted(pool.listVolumes()) if is_there else []
    if pool.isActive():
        patiently(pool.destroy)
    if made_folder and is_there:
        try:
            pool.delete(0)
        except libvirt.libvirtError as error:
            inside = f" ({', '.join(left[:5])})" if left else ""
            made_folder = ""
            context.warn(f"pool {name}: its folder {path} stays, with what others put there{inside}: {error}")
    pool.undefine()
    if made_folder:
        _remove_parents(path, made_folder)


def _topmost_missing(place: str) -> str:
    """As far as this machine sees the hypervisor's folders, which it does when libvirtd runs on it."""
    missing = [folder for folder in (Path(place), *Path(place).parents) if not folder.exists()]
    return str(missing[-1]) if missing else place


def _remove_parents(place: str, topmost: str) -> None:
    """Those that were made on the way to the pool's folder, if they are empty by now."""
    for folder in Path(place).parents:
        if not folder.is_relative_to(topmost):
            return
        try:
            folder.rmdir()
        except OSError:
            return  # it is used by now, or on another machine


def _refuse_same_folder(connection: Any, pool: PoolInputs) -> None:
    if pool.type != "dir":
        return
    for other in connection.listAllStoragePools():
        try:
            seen = parse(other.XMLDesc(0))
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:  # another update has just removed it
                continue
            raise
        if seen["target"]["path"].rstrip("/") == pool.place:
            raise ProviderError(
                f"pool {pool.name}: the folder {pool.place} is that of the pool {other.name()}, which this stack did "
                f"not make. Choose another target.path, or use that pool by its name."
            )


def _figures(pool: Any) -> Values:
    _state, capacity, allocation, available = pool.info()
    return {"capacity": capacity, "allocation": allocation, "available": available}
