"""A short way to write policy rules as data: words in strings, as the tables of roles are read by people."""

from __future__ import annotations

from typing import Any

READ = "get list watch"
WRITE = "create delete deletecollection patch update"


def rule(verbs: str, groups: str, resources: str, names: str = "") -> dict[str, Any]:
    """A rule on resources. `groups` are separated by spaces; "" is the core group, which `core` names beside others."""
    found: dict[str, Any] = {
        "apiGroups": ["" if group == "core" else group for group in groups.split()] or [""],
        "resources": resources.split(),
        "verbs": sorted(verbs.split()),
    }
    return found | ({"resourceNames": names.split()} if names else {})


def urls(verbs: str, paths: str) -> dict[str, Any]:
    return {"nonResourceURLs": paths.split(), "verbs": verbs.split()}


EVENTS = rule("create patch update", "core events.k8s.io", "events")
