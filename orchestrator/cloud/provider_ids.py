"""Provider ids of this project's labs: `sampan://<lab>/<node>`."""

from __future__ import annotations

from orchestrator.cloud.provider import CloudError

SCHEME = "sampan://"


def provider_id(lab: str, node: str) -> str:
    return f"{SCHEME}{lab}/{node}"


def machine_of(lab: str, node: str, given: str) -> str:
    """The machine's name: that of the provider id, else the Node's own. CloudError for a machine of another cloud, of
    which we know nothing: least of all that it is gone."""
    if not given:
        return node
    prefix = provider_id(lab, "")
    if not given.startswith(prefix):
        raise CloudError(f"node {node}: provider id {given} is not of lab {lab} ({prefix}…)")
    return given.removeprefix(prefix)
