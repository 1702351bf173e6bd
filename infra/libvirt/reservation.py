"""The lab's name and place on this machine, as the first resource of its stack and the last that goes (registry.py).

Its one input that changes is the topology: after an update lab.json says which nodes the lab shall have, which is how
the removal of one node is told from the end of the whole lab.
"""

from __future__ import annotations

import json
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from infra.libvirt import registry
from infra.libvirt.registry import Lab
from infra.topology import Topology


class ReservationProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        moved = [key for key in ("lab", "index") if olds.get(key) != news[key]]
        changes = bool(moved) or any(olds.get(key) != news[key] for key in ("topology", "folder", "uri", "image"))
        return DiffResult(changes=changes, replaces=moved, delete_before_replace=True)

    def create(self, props: dict[str, Any]) -> CreateResult:
        registry.claim(_lab(props))
        return CreateResult(props["lab"], props)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        known = registry.read(id_)
        is_ours = known is not None and (known.project, known.stack) == (props["project"], props["stack"])
        return ReadResult(id_ if is_ours else "", props)

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        registry.claim(_lab(news))
        return UpdateResult(news)

    def delete(self, id_: str, props: dict[str, Any]) -> None:
        registry.release(id_, props["project"], props["stack"])


def _lab(props: dict[str, Any]) -> Lab:
    topology = Topology.from_data(json.loads(props["topology"]))
    places = {key: props[key] for key in ("project", "stack", "folder", "uri")}
    return Lab(topology=topology, image=json.loads(props["image"]), **places)


def properties(lab: Lab) -> dict[str, str]:
    return {
        "lab": lab.name,
        "index": str(lab.topology.index),
        "project": lab.project,
        "stack": lab.stack,
        "folder": lab.folder,
        "uri": lab.uri,
        "image": json.dumps(dict(lab.image), sort_keys=True),
        "topology": json.dumps(lab.topology.to_data(), sort_keys=True),
    }


class Reservation(Resource, module="sampan", name="Reservation"):
    def __init__(self, lab: Lab, options: pulumi.ResourceOptions) -> None:
        super().__init__(ReservationProvider(), lab.name, dict(properties(lab)), options)
