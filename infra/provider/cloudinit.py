"""CloudInitDisk: an image with cloud-init's user data, meta data and network configuration (data source NoCloud).

Source: https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
"""

from __future__ import annotations

import msgspec
import yaml

from infra.provider import iso
from infra.provider.network_xml import Part
from infra.provider.properties import Values
from infra.provider.resource import Failure
from infra.provider.written import Written

LABEL = "cidata"
DATA = {"user-data": "userData", "meta-data": "metaData", "network-config": "networkConfig"}


class CloudInitInputs(Part, frozen=True):
    name: str = ""
    pool: str = "default"
    user_data: str = ""
    meta_data: str = ""
    network_config: str = ""


class CloudInitDisk(Written):
    token = "libvirt:index/cloudInitDisk:CloudInitDisk"
    word = "cloud-init disk"
    inputs = CloudInitInputs
    secret = frozenset(DATA.values())
    read_at = "next"

    def check(self, inputs: Values, old: Values) -> list[Failure]:
        failures = []
        for name in DATA.values():
            text = inputs.get(name) or ""
            is_yaml = name != "userData" or text.startswith("#cloud-config")
            if is_yaml and (fault := _fault(text)):
                failures.append(Failure(name, fault))
        return failures

    def content(self, inputs: Values) -> bytes:
        return image(msgspec.convert(inputs, CloudInitInputs))


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
