"""Ignition and Combustion: what Fedora CoreOS, Flatcar and openSUSE MicroOS read at their first boot, as a file that a
domain's `coreosIgnition` hands to the guest through its firmware (`fwCfgName` says under which name).

`content` is the data itself, or the path of a file of this machine that has them.
Sources: https://coreos.github.io/ignition/supported-platforms/ (QEMU); openSUSE combustion, "fw_cfg"
(opt/org.opensuse.combustion/script).
"""

from __future__ import annotations

import json
from pathlib import Path

from infra.provider.network_xml import Part
from infra.provider.properties import Values
from infra.provider.resource import Failure
from infra.provider.written import Written


class FirstBootInputs(Part, frozen=True):
    content: str
    name: str = ""
    pool: str = "default"


class _FirstBoot(Written):
    inputs = FirstBootInputs
    secret = frozenset({"content"})
    read_at = "first"

    def content(self, inputs: Values) -> bytes:
        text: str = inputs["content"]
        return Path(text).read_bytes() if _is_file(text) else text.encode()


class Ignition(_FirstBoot):
    token = "libvirt:index/ignition:Ignition"
    word = "Ignition file"

    def check(self, inputs: Values, old: Values) -> list[Failure]:
        text = inputs.get("content") or ""
        try:
            found = json.loads(self.content({"content": text}))
        except ValueError:
            found = None
        return [] if isinstance(found, dict) else [Failure("content", "must be a JSON object, or a file that has one")]


class Combustion(_FirstBoot):
    token = "libvirt:index/combustion:Combustion"
    word = "Combustion script"

    def check(self, inputs: Values, old: Values) -> list[Failure]:
        is_script = self.content({"content": inputs.get("content") or ""}).startswith(b"#!")
        return [] if is_script else [Failure("content", "must be a script that begins with #!, or a file that has one")]


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # data are rarely a path that could be one
        return False
