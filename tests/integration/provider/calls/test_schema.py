"""The schema: what `pulumi import` writes a program from."""

from __future__ import annotations

from infra.provider.__main__ import resources
from infra.provider.schema import schema


def test_parts_are_referred_to_and_there() -> None:
    made = schema(resources(), "0.5.4")
    domain = made["resources"]["libvirt:index/domain:Domain"]
    assert domain["inputProperties"]["memory"] == {"type": "integer"}
    assert domain["inputProperties"]["running"] == {"type": "boolean"}
    assert domain["inputProperties"]["cmdlines"] == {
        "type": "array",
        "items": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    disks = domain["inputProperties"]["disks"]
    assert disks == {"type": "array", "items": {"$ref": "#/types/libvirt:index/DomainDisk:DomainDisk"}}
    assert made["types"]["libvirt:index/DomainDisk:DomainDisk"]["properties"]["volumeId"] == {"type": "string"}
    assert made["resources"]["libvirt:index/pool:Pool"]["requiredInputs"] == ["type"]
    assert made["types"]["libvirt:index/DomainConsole:DomainConsole"]["required"] == ["type", "targetPort"]


def test_secrets_are_said_to_be() -> None:
    disk = schema(resources(), "0.5.4")["resources"]["libvirt:index/cloudInitDisk:CloudInitDisk"]
    assert disk["inputProperties"]["userData"] == {"type": "string", "secret": True}
