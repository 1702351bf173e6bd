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
from infra.libvirt.registry import Claimed, Lab
from infra.topology import Topology

REASONS = ("index", "topology", "folder", "uri", "image")


class ReservationProvider(ResourceProvider):
    serialize_as_secret_always = False

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        if olds.get("lab") != news["lab"]:
            raise Claimed(
                f"name: {news['lab']!r}: the lab of this stack is called {olds.get('lab')!r}, as all that it has is: "
                "set the name back, or take the lab away first (pulumi destroy)"
            )
        return DiffResult(changes=any(olds.get(key) != news[key] for key in REASONS))

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
