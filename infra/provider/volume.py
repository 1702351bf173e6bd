"""Volume: a disk image in a pool, empty, from a file, or a layer over another volume; it can grow in place.

Its id is its key, which for a file is its path. The journal says which volumes are ours (`journal.py`); one whose
upload was cut short is made again. A volume that a running domain uses grows through that domain, since QEMU holds it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from infra.provider import copying, journal, marks, source, xslt
from infra.provider.binding import libvirt
from infra.provider.network_xml import Part, Xml
from infra.provider.properties import UNKNOWN, Values
from infra.provider.refresh import drifted, observable, without_none
from infra.provider.resource import Context, Failure, ProviderError
from infra.provider.storage import (
    Owner,
    find_volume,
    patiently,
    pool_named,
    qemu_user,
    remove_volume,
    turn,
    upload,
    volume_named,
)
from infra.provider.volume_xml import Backing, Shape, build, parse

ROUNDING_BYTES = 64 << 20  # a volume may be bigger than asked by this: logical ones are whole extents


class VolumeInputs(Part, frozen=True):
    base_volume_id: str = ""
    base_volume_name: str = ""
    base_volume_pool: str = ""
    format: Literal["qcow2", "raw"] | None = None
    name: str = ""
    pool: str = "default"
    size: Annotated[int, msgspec.Meta(gt=0)] | None = None
    source: str = ""
    xml: Xml = Xml()

    @property
    def has_base(self) -> bool:
        return bool(self.base_volume_id or self.base_volume_name)


class Volume:
    token = "libvirt:index/volume:Volume"
    word = "volume"
    inputs = VolumeInputs
    defaults = {"pool": "default"}
    replaces = frozenset(
        {"name", "pool", "source", "format", "xml", "baseVolumeId", "baseVolumeName", "baseVolumePool"}
    )
    replaces_if_unknown: frozenset[str] = frozenset()
    computed = frozenset({"format", "size"})
    secret: frozenset[str] = frozenset()

    def normalize(self, inputs: Values) -> Values:
        return inputs

    def check(self, inputs: Values, old: Values) -> list[Failure]:
        volume = msgspec.convert(inputs, VolumeInputs, strict=False)
        cures = ("source", "baseVolumeId", "baseVolumeName")
        failures: list[Failure] = []
        if volume.size is None and not volume.source and not volume.has_base:
            failures.append(Failure("size", "is required without a source and without a base volume", cures))
        if volume.source and volume.has_base:
            failures.append(Failure("source", "a volume over a base volume has no source of its own"))
        if volume.base_volume_id and volume.base_volume_name:
            failures.append(Failure("baseVolumeName", "baseVolumeId names the base volume already"))
        if volume.base_volume_pool and not volume.base_volume_name:
            failures.append(
                Failure("baseVolumePool", "is the pool of baseVolumeName, which is missing", ("baseVolumeName",))
            )
        if volume.has_base and volume.format == "raw":
            failures.append(Failure("format", "a volume over a base volume must be qcow2: raw has no layers"))
        if volume.source and volume.source != old.get("source") and not source.is_there(volume.source):
            failures.append(Failure("source", "no such file on this machine"))  # once made, it is not needed again
        if volume.xml.xslt and not xslt.is_possible():
            failures.append(
                Failure("xml.xslt", "needs lxml or the program xsltproc (Debian: xsltproc), and neither is there")
            )
        return failures

    def consequences(self, changed: frozenset[str], old: Values, new: Values) -> list[str]:
        before, after = old.get("size"), new.get("size")
        if (
            before is not None
            and after is not None
            and after is not UNKNOWN
            and before is not UNKNOWN
            and after < before
        ):
            raise ProviderError(_refuse_shrinking(new.get("name", ""), before, after))
        return []

    def create(self, context: Context, inputs: Values) -> tuple[str, Values]:
        volume = msgspec.convert(inputs, VolumeInputs, strict=False)
        place = journal.key(context.uri, volume.pool, volume.name)
        definition = marks.digest(repr(sorted(inputs.items())))
        with turn(context.uri, volume.pool):
            pool = pool_named(context, volume.pool, why=f"volume {volume.name}")
            found = claim(context, pool, volume.name, place, definition, word=self.word)
            if found is None:
                journal.begin(place, context.urn, definition)
                try:
                    found = _make(context, pool, volume)
                except BaseException:
                    if (half := volume_named(pool, volume.name)) is not None:
                        remove_volume(half)
                    journal.end(place)
                    raise
                journal.complete(place, context.urn, definition)
        return found.key(), {**inputs, **_figures(found)}

    def read(self, context: Context, id: str, inputs: Values, outputs: Values) -> tuple[str, Values, Values] | None:
        with turn(context.uri, outputs.get("pool", "")):
            found = find_volume(context.connection, id, outputs.get("pool", ""))
        if found is None:
            journal.end(journal.key(context.uri, outputs.get("pool", ""), outputs.get("name", "")))
            return None
        seen = _observed(found)
        if inputs.get("size") is not None and 0 <= seen["size"] - inputs["size"] < ROUNDING_BYTES:
            seen["size"] = inputs["size"]
        now = drifted(inputs, observable(inputs, seen)) if inputs else without_none(seen)
        return found.key(), now, {**now, **_figures(found)}

    def update(self, context: Context, id: str, old: Values, outputs: Values, inputs: Values) -> Values:
        with turn(context.uri, inputs["pool"]):
            found = find_volume(context.connection, id, inputs["pool"])
            if found is None:
                raise ProviderError(f"volume {inputs['name']} has gone: run pulumi refresh, then pulumi up")
            if (size := inputs.get("size")) is not None:
                _grow(context, found, inputs["name"], size)
        return {**inputs, **_figures(found)}

    def delete(self, context: Context, id: str, outputs: Values) -> None:
        remove(context, id, outputs)


def claim(context: Context, pool: Any, name: str, place: str, definition: str, *, word: str) -> Any:
    """What is there under that name: None if nothing (or only a half of ours, which is removed), the volume if it is
    ours and whole. ProviderError if it is somebody else's."""
    found = volume_named(pool, name)
    if found is None:
        patiently(lambda: pool.refresh())  # a file that came by another road is there as well
        found = volume_named(pool, name)
    if found is None:
        return None
    record = journal.mine(place, context.urn)
    if record is None:
        remedy = f"virsh vol-delete {name} --pool {pool.name()}"
        raise ProviderError(marks.foreign(word, f"{name} in pool {pool.name()}", context.uri, None, remedy))
    context.note(f"{word} {name}: an update that was cut short made it; it is taken over")
    if record.complete and record.definition == definition:
        return found
    remove_volume(found)
    return None


def remove(context: Context, id: str, outputs: Values) -> None:
    pool, name = outputs.get("pool", ""), outputs.get("name", "")
    with turn(context.uri, pool):
        found = find_volume(context.connection, id, pool)
        if found is not None:
            remove_volume(found)
    journal.end(journal.key(context.uri, pool, name))


def _make(context: Context, pool: Any, volume: VolumeInputs) -> Any:
    kind = ET.fromstring(pool.XMLDesc(0)).get("type", "dir")
    owner = qemu_user(context)
    if volume.source:
        return _from_source(context, pool, volume, kind, owner)
    backing = _backing(context, pool, volume) if volume.has_base else None
    if backing is not None and volume.size is not None and volume.size < backing.size_bytes:
        raise ProviderError(
            f"volume {volume.name}: size {volume.size} is smaller than its base volume's {backing.size_bytes}: "
            f"a layer is at least as big as what is below it"
        )
    size = volume.size if volume.size is not None else backing.size_bytes if backing is not None else 0
    return _define(pool, volume, Shape(volume.name, size, volume.format or _usual_format(kind), kind, owner, backing))


def _from_source(context: Context, pool: Any, volume: VolumeInputs, kind: str, owner: Owner | None) -> Any:
    what = f"volume {volume.name} from {volume.source}"
    try:
        with source.opened(volume.source) as file:
            if volume.format is not None and volume.format != file.format:
                raise ProviderError(f"{what}: format {volume.format} is asked, and the file is {file.format}")
            if volume.size is not None and volume.size < file.disk_bytes:
                raise ProviderError(f"{what}: size {volume.size} is smaller than the disk in it, {file.disk_bytes}")
            _refuse_full(pool, file.size_bytes, what)
            shape = Shape(volume.name, file.disk_bytes, file.format, kind, owner)
            expected = copying.place_in(pool, volume.name)
            found = _define(pool, volume, shape)
            if not source.is_web(volume.source) and copying.is_here(found, expected):
                copying.copy(context, source.local_path(volume.source), Path(found.path()), what)
            else:
                upload(context, found, file.chunks(), file.size_bytes, what)
    except source.SourceError as error:
        raise ProviderError(f"{what}: {error}") from error
    patiently(lambda: pool.refresh())  # libvirt reads the size of the disk from what was uploaded
    if volume.size is not None and volume.size > found.info()[1]:
        found.resize(volume.size)
    return found


def _define(pool: Any, volume: VolumeInputs, shape: Shape) -> Any:
    definition = marks.text_of(build(shape))
    if volume.xml.xslt:
        definition = xslt.transform(definition, volume.xml.xslt)
    try:
        return patiently(lambda: pool.createXML(definition, 0))
    except libvirt.libvirtError as error:
        if "No space left" in str(error):
            raise ProviderError(_full(pool, f"volume {volume.name}")) from error
        raise


def _backing(context: Context, pool: Any, volume: VolumeInputs) -> Backing:
    if volume.base_volume_id:
        base = find_volume(context.connection, volume.base_volume_id)
        named = volume.base_volume_id
    else:
        holder = pool_named(context, volume.base_volume_pool or volume.pool, why=f"volume {volume.name}: base volume")
        base = volume_named(holder, volume.base_volume_name)
        named = f"{volume.base_volume_name} in pool {holder.name()}"
    if base is None:
        raise ProviderError(f"volume {volume.name}: there is no base volume {named} on {context.uri}")
    seen = parse(base.XMLDesc(0))
    return Backing(base.path(), seen["format"], seen["size"])


def _usual_format(kind: str) -> str:
    return "raw" if kind == "logical" else "qcow2"


def _refuse_full(pool: Any, needed_bytes: int, what: str) -> None:
    if pool.info()[3] < needed_bytes:
        raise ProviderError(f"{_full(pool, what)} It needs {needed_bytes >> 20} MiB.")


def _full(pool: Any, what: str) -> str:
    return (
        f"{what}: the pool {pool.name()} has {pool.info()[3] >> 20} MiB left. "
        f"Make room there, or choose a pool on another file system."
    )


def _grow(context: Context, volume: Any, name: str, size: int) -> None:
    now = volume.info()[1]
    if size <= now:
        if now - size >= ROUNDING_BYTES:
            raise ProviderError(_refuse_shrinking(name, now, size))
        return
    for domain in context.connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        if _uses(domain, volume.path()):
            context.note(f"volume {name} grows to {size} bytes while {domain.name()} runs; its guest sees it at once")
            domain.blockResize(volume.path(), size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
            return
    patiently(lambda: volume.resize(size, 0))


def _uses(domain: Any, path: str) -> bool:
    try:
        root = ET.fromstring(domain.XMLDesc(0))
    except libvirt.libvirtError:
        return False  # it has ended meanwhile
    return any(each.get("file") == path or each.get("dev") == path for each in root.findall("devices/disk/source"))


def _refuse_shrinking(name: str, before: int, after: int) -> str:
    return (
        f"volume {name}: size {after} is smaller than the {before} it has, and what is beyond would be lost. "
        f"A volume only grows; to have a smaller one, remove it from the program, pulumi up, and add it again."
    )


def _observed(volume: Any) -> Values:
    seen = parse(volume.XMLDesc(0))
    pool = volume.storagePoolLookupByVolume()
    return {"name": seen["name"], "pool": pool.name(), "format": seen["format"], "size": seen["size"]}


def _figures(volume: Any) -> Values:
    seen = parse(volume.XMLDesc(0))
    return {"format": seen["format"], "size": seen["size"]}
