"""What a lab is like now, from the supervisor and, where it answers, the API: one value for tables and JSON."""

from __future__ import annotations

import asyncio
from typing import Any

from infra.local.control import Control, NotRunning
from infra.local.layout import Layout
from infra.readiness import is_ready
from orchestrator.api import meta
from orchestrator.api.meta import Object
from orchestrator.api.resources import NODES
from orchestrator.api.status import ApiError
from orchestrator.client.client import Client

API_TIMEOUT_S = 3.0


def status(layout: Layout) -> dict[str, Any]:
    try:
        seen = Control(layout).ask("status")
    except NotRunning as error:
        return {"lab": layout.name, "supervisor": 0, "api": f"unknown ({error})", "nodes": [], "components": []}
    nodes, answer = api_nodes(layout)
    ready = {meta.name(node): is_ready(node) for node in nodes}
    return {
        "lab": layout.name,
        "supervisor": seen["pid"],
        "api": answer,
        "nodes": [
            {"name": name, **node, "state": state(node), "ready": _ready(ready.get(name))}
            for name, node in seen["nodes"].items()
        ],
        "components": [{**entry, "state": state(entry)} for entry in seen["components"]],
    }


def state(seen: dict[str, Any]) -> str:
    if seen["pid"]:
        return "running"
    return "restarting" if seen["wanted"] else "stopped"


def _ready(ready: bool | None) -> str:
    return "unknown" if ready is None else str(ready)


def api_nodes(layout: Layout) -> tuple[list[Object], str]:
    """The Node objects, and "ready" or why there are none."""
    if not layout.kubeconfig.exists():
        return [], "not installed"
    try:
        return asyncio.run(_list_nodes(layout)), "ready"
    except (ApiError, OSError, TimeoutError) as error:
        return [], f"not answering ({error})"


async def _list_nodes(layout: Layout) -> list[Object]:
    client = Client.from_kubeconfig(layout.kubeconfig, user_agent="sampan")
    try:
        async with asyncio.timeout(API_TIMEOUT_S):
            return list((await client.list(NODES)).items)
    finally:
        await client.close()
