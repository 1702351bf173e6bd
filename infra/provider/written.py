"""A volume whose bytes are made from properties: what disks and files have in common that a guest reads at its boot.

A changed content is written in place: a running guest keeps the old one until its next boot, and is neither replaced
nor restarted. What it is made from is a secret in the state, since such data tend to hold keys; the journal gets no
hash of it, for one of a short secret would tell it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from infra.provider import journal, marks
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


class Written:
    """Its kinds say token, word, inputs and secrets, how the content is made, and what is wrong with it."""

    token: str
    word: str
    inputs: type[Any]
    secret: frozenset[str]
    read_at: str  # when a guest reads it
    defaults = {"pool": "default"}
    replaces = frozenset({"name", "pool"})
    replaces_if_unknown: frozenset[str] = frozenset()
    computed: frozenset[str] = frozenset()

    def content(self, inputs: Values) -> bytes:
        raise NotImplementedError

    def check(self, inputs: Values, old: Values) -> list[Failure]:
        raise NotImplementedError

    def normalize(self, inputs: Values) -> Values:
        return inputs

    def consequences(self, changed: frozenset[str], old: Values, new: Values) -> list[str]:
        return [f"{self.word} {new.get('name')}: written in place; its guest reads it at its {self.read_at} boot"]

    def create(self, context: Context, inputs: Values) -> tuple[str, Values]:
        place = journal.key(context.uri, inputs["pool"], inputs["name"])
        content = self.content(inputs)
        with turn(context.uri, inputs["pool"]):
            pool = pool_named(context, inputs["pool"], why=f"{self.word} {inputs['name']}")
            if (found := claim(context, pool, inputs["name"], place, "", word=self.word)) is not None:
                remove_volume(found)
            found = self._write(context, pool, inputs["name"], content, place)
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
        place = journal.key(context.uri, inputs["pool"], inputs["name"])
        content = self.content(inputs)
        with turn(context.uri, inputs["pool"]):
            pool = pool_named(context, inputs["pool"], why=f"{self.word} {inputs['name']}")
            if (found := volume_named(pool, inputs["name"])) is not None:
                remove_volume(found)  # a running guest has it open, and keeps it
            self._write(context, pool, inputs["name"], content, place)
        return dict(inputs)

    def delete(self, context: Context, id: str, outputs: Values) -> None:
        remove(context, id.partition(";")[0], outputs)

    def _write(self, context: Context, pool: Any, name: str, content: bytes, place: str) -> Any:
        journal.begin(place, context.urn, "")
        kind = ET.fromstring(pool.XMLDesc(0)).get("type", "dir")
        definition = marks.text_of(build(Shape(name, len(content), "raw", kind, qemu_user(context))))
        found = patiently(lambda: pool.createXML(definition, 0))
        try:
            upload(context, found, iter([content]), len(content), f"{self.word} {name}")
        except BaseException:
            remove_volume(found)
            journal.end(place)
            raise
        journal.complete(place, context.urn, "")
        return found
