"""The cloud of a lab on one machine: namespace nodes, as the lab's supervisor knows them.

The supervisor is asked over its control socket: one connection, one JSON object a line each way, the verb `status`.
A node that it does not list is gone; one that is off on purpose (`wanted` is false) is shut down; one that has died
and will be started again is neither.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from orchestrator.cloud.provider import CloudError, Instance
from orchestrator.cloud.provider_ids import machine_of, provider_id

ANSWER_TIMEOUT_S = 30.0  # the supervisor answers nobody while it boots nodes
ANSWER_BYTES_MAX = 1 << 20
INSTANCE_TYPE = "namespace"


class LocalConfig(Struct, frozen=True, kw_only=True):
    """`zones`: of nodes that are in another than the lab's own."""

    control_socket: str
    region: str = "local"
    zone: str = "local-a"
    zones: dict[str, str] = field(default_factory=dict)


class LocalInstances:
    """The nodes of one lab."""

    def __init__(self, lab: str, config: LocalConfig) -> None:
        self._lab, self._config = lab, config

    async def get(self, node: str, provider_id: str) -> Instance | None:
        name = machine_of(self._lab, node, provider_id)
        seen = (await ask(Path(self._config.control_socket), "status"))["nodes"].get(name)
        return None if seen is None else instance(self._lab, name, seen, self._config)


def instance(lab: str, name: str, seen: dict[str, Any], config: LocalConfig) -> Instance:
    """From what the supervisor says of a node. Pure."""
    return Instance(
        name=name,
        provider_id=provider_id(lab, name),
        addresses=tuple(("InternalIP", address) for address in seen["addresses"]),
        instance_type=INSTANCE_TYPE,
        zone=config.zones.get(name, config.zone),
        region=config.region,
        is_shut_down=not seen["wanted"] and not seen["pid"],
    )


def node_pids(control_socket: Path) -> Callable[[], Awaitable[Mapping[str, int]]]:
    """Asks for each node's PID 1, as this process sees it: 0 of one that is off."""

    async def pids() -> Mapping[str, int]:
        nodes = (await ask(control_socket, "status"))["nodes"]
        return {name: int(seen["pid"] or 0) for name, seen in nodes.items()}

    return pids


async def ask(control_socket: Path, verb: str, **arguments: Any) -> Any:
    """A verb's result. CloudError where nobody answers, or the supervisor refuses."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(control_socket, limit=ANSWER_BYTES_MAX)
            try:
                writer.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
                answer = json.loads(await reader.readuntil(b"\n"))
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise CloudError(f"the lab's supervisor does not answer at {control_socket}: {error!r}") from error
    if not answer.get("ok"):
        raise CloudError(f"the lab's supervisor refuses {verb}: {answer.get('error')}")
    return answer["result"]
