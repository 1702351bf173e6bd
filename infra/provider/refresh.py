"""Refresh: the state's inputs as libvirt has them now, so that what changed behind Pulumi's back is a difference.

Only what the program asks for is compared: what others added (a cloud controller's disk, a DHCP host) is not drift.
"""

from __future__ import annotations

from typing import Any

from infra.provider.properties import Values


def drifted(inputs: Values, seen: Values) -> Values:
    """`inputs` with what `seen` says instead. A property that `seen` does not mention cannot be observed and stays;
    one that it holds as None is not set any more and goes. Of a list stays what is still there."""
    now: Values = {}
    for name, asked in inputs.items():
        if name not in seen:
            now[name] = asked
        elif seen[name] is not None:
            now[name] = _drifted(asked, seen[name])
    return now


def observable(inputs: Values, seen: Values) -> Values:
    """What can be compared: a definition that the user's own transformation changed differs from the inputs anyhow."""
    if (inputs.get("xml") or {}).get("xslt"):
        return {name: value for name, value in seen.items() if name in ("autostart", "running")}
    return seen


def _drifted(asked: Any, seen: Any) -> Any:
    if isinstance(asked, dict) and isinstance(seen, dict):
        return drifted(asked, seen)
    if isinstance(asked, list) and isinstance(seen, list):
        return [element for element in asked if any(_is_in(element, other) for other in seen)]
    return asked if asked == seen else seen


def _is_in(asked: Any, seen: Any) -> bool:
    """Whether `seen` has all of `asked`; it may have more (defaults, what libvirt chose)."""
    if isinstance(asked, dict) and isinstance(seen, dict):
        return all(name not in seen or _is_in(value, seen[name]) for name, value in asked.items())
    return bool(asked == seen)


def without_none(values: Any) -> Any:
    """What an import takes over: no property that is not set."""
    if isinstance(values, dict):
        return {name: without_none(value) for name, value in values.items() if value is not None}
    if isinstance(values, list):
        return [without_none(value) for value in values]
    return values
