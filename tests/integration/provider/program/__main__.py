"""Makes what resources.json names: one program for every case, so that a case is data.

A value {"of": "NAME.ATTRIBUTE"} is an output of an earlier resource; {"secret": VALUE} a secret.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pulumi_libvirt

made: dict[str, Any] = {}


def resolved(value: Any) -> Any:
    if isinstance(value, list):
        return [resolved(element) for element in value]
    if not isinstance(value, dict):
        return value
    if "of" in value:
        name, _, attribute = value["of"].partition(".")
        return getattr(made[name], attribute)
    if "secret" in value:
        return pulumi.Output.secret(value["secret"])
    return {name: resolved(member) for name, member in value.items()}


for entry in json.loads(Path(__file__).with_name("resources.json").read_text()):
    kind = getattr(pulumi_libvirt, entry["type"])
    options = pulumi.ResourceOptions(
        depends_on=[made[name] for name in entry.get("after", [])],
        provider=made.get(entry.get("provider", "")),
        custom_timeouts=pulumi.CustomTimeouts(create=entry["timeout"]) if "timeout" in entry else None,
    )
    made[entry["name"]] = kind(entry["name"], opts=options, **resolved(entry["properties"]))
