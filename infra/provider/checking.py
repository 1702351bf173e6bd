"""Check: does a resource's input have the right shape, and what does it look like with defaults filled in?

The shape is the resource's msgspec struct; the failure's path is Pulumi's (`disks[0].volumeId`). A refusal names the
resource, the property, its value and the rule. What is unknown in a preview is checked by the update.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import msgspec

from infra.provider.properties import UNKNOWN, Values, known
from infra.provider.resource import Failure, Resource

PLACE = re.compile(r"^(?P<rule>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
UNKNOWN_FIELD = re.compile(r"unknown field `(?P<field>\w+)`")
MISSING_FIELD = re.compile(r"missing required field `(?P<field>\w+)`")
SUFFIX_LENGTH = 7  # as Pulumi's own names have it


def check(
    resource: Resource, old: Values, new: Values, name: str, seed: bytes, secret: frozenset[str] = frozenset()
) -> tuple[Values, list[Failure]]:
    """The inputs with defaults and a name, and what is wrong with them. `name` is the resource's in the program.

    What is in `secret` (top-level properties) is named in no failure.
    """
    inputs = {field: value for field, value in new.items() if value is not None}
    for field, value in resource.defaults.items():
        inputs.setdefault(field, value)
    if "name" in resource.inputs.__struct_fields__ and not inputs.get("name"):
        inputs["name"] = old.get("name") or _named(name, seed)
    title = f"{resource.word} {inputs.get('name', name)}"
    certain: Values = known(inputs)
    try:
        msgspec.convert(certain, resource.inputs, strict=False)
    except msgspec.ValidationError as error:
        found = _shape(str(error))
        if value_at(inputs, found.path) is UNKNOWN:
            return inputs, []  # it is missing only because it is not known yet
        return inputs, [_worded(title, certain, found, secret)]
    failures = [
        _worded(title, certain, found, secret)
        for found in resource.check(certain, old)
        if not any(_hangs_on_unknown(inputs, path) for path in (found.path, *found.cures))
    ]
    return (inputs if failures else resource.normalize(inputs)), failures


def _named(name: str, seed: bytes) -> str:
    """A name of our own for a resource to which the program gives none; the seed is Pulumi's, one a resource."""
    return f"{name}-{hashlib.sha256(seed + name.encode()).hexdigest()[:SUFFIX_LENGTH]}"


def _shape(message: str) -> Failure:
    """msgspec's words as a path and a rule."""
    match = PLACE.match(message)
    assert match is not None  # the pattern takes any text
    path, rule = match["path"] or "", match["rule"]
    if unknown := UNKNOWN_FIELD.search(rule):
        return Failure(f"{path}.{unknown['field']}".lstrip("."), "no such property")
    if missing := MISSING_FIELD.search(rule):
        return Failure(f"{path}.{missing['field']}".lstrip("."), "is required")
    return Failure(path, rule)


def _worded(title: str, inputs: Values, failure: Failure, secret: frozenset[str]) -> Failure:
    value = value_at(inputs, failure.path)
    is_secret = re.split(r"[.\[]", failure.path, maxsplit=1)[0] in secret
    shown = "" if value is None else " = [secret]" if is_secret else f" = {json.dumps(value)}"
    return Failure(failure.path, f"{title}: {failure.path}{shown}: {failure.reason}")


def value_at(inputs: Any, path: str) -> Any:
    """What is at `disks[0].volumeId`; None where there is nothing."""
    here = inputs
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(here, dict):
            here = here.get(step)
        elif isinstance(here, list) and step.isdigit() and int(step) < len(here):
            here = here[int(step)]
        else:
            return None
    return here


def _hangs_on_unknown(inputs: Values, path: str) -> bool:
    """Whether the value, or what it is part of, holds something that only the update will know."""
    steps = path.split(".")
    places = (value_at(inputs, ".".join(steps[:depth])) for depth in range(1, len(steps) + 1))
    return any(_holds_unknown(place) for place in places)


def _holds_unknown(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_unknown(member) for member in value.values())
    if isinstance(value, list):
        return any(_holds_unknown(element) for element in value)
    return value is UNKNOWN
