"""The door of a server that is not there yet: one of all who wait for it looks again and again, for all.

A component has a dozen informers and more; each would otherwise knock by itself, and most of a slow machine's work
while its control plane starts would be knocking. Source: the wait of upstream's kubelet for its API server.
"""

from __future__ import annotations

import asyncio
import logging
from random import Random

from orchestrator.api.wire import Request
from orchestrator.client.client import Client

log = logging.getLogger(__name__)

# A server that is not there has no load to be spared, and one that starts is found soon.
KNOCK_FIRST_S, KNOCK_MAX_S = 0.2, 2.0
PATH = "/version"  # open to whoever may ask at all


class Door:
    """Of the server that `client` asks."""

    def __init__(self, client: Client, random: Random) -> None:
        self._client, self._random = client, random
        self._knocking: asyncio.Task[None] | None = None

    async def opened(self) -> None:
        """Until somebody listens there, whatever is answered."""
        if self._knocking is None or self._knocking.done():
            self._knocking = asyncio.get_running_loop().create_task(self._knock())
        await asyncio.shield(self._knocking)

    async def close(self) -> None:
        if self._knocking is not None:
            self._knocking.cancel()
            await asyncio.gather(self._knocking, return_exceptions=True)

    async def _knock(self) -> None:
        delay_s = KNOCK_FIRST_S
        while True:
            await asyncio.sleep(delay_s * self._random.uniform(0.5, 1.5))
            try:
                await self._client.request(Request("GET", PATH, [], {}))
            except ConnectionRefusedError as error:
                log.debug("nobody listens", extra={"error": str(error)})
                delay_s = min(2 * delay_s, KNOCK_MAX_S)
                continue
            except ConnectionError as error:
                log.debug("the server hangs up", extra={"error": str(error)})
            return
