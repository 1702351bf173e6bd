"""libvirt, called from an event loop: the one place of the cloud controller that imports its binding.

A call is a function of a connection; it runs in a thread, as libvirt blocks. Connections are opened when first used and
again when they have died. The binding is Debian's python3-libvirt, which lies outside a virtual environment, so its
folder is looked at last. Errors: CloudError with libvirt's own words.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from orchestrator.cloud.provider import CloudError

DIST_PACKAGES = "/usr/lib/python3/dist-packages"
CALL_TIMEOUT_S = 60.0
T = TypeVar("T")


def binding() -> Any:
    """The module `libvirt`. CloudError where it is missing."""
    if DIST_PACKAGES not in sys.path:
        sys.path.append(DIST_PACKAGES)
    try:
        module = importlib.import_module("libvirt")
    except ImportError as error:
        raise CloudError(f"libvirt's Python binding (Debian: python3-libvirt) cannot be loaded: {error}") from error
    module.registerErrorHandler(lambda context, error: None, None)  # an error is raised, it need not be printed too
    return module


class Hypervisors:
    """Connections by URI."""

    def __init__(self) -> None:
        self.libvirt = binding()
        self._open: dict[str, Any] = {}
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def call(self, uri: str, function: Callable[[Any], T]) -> T:
        """What `function` makes of the connection. CloudError for whatever libvirt raises in it."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                connection = await self._connection(uri)
                return await asyncio.to_thread(function, connection)
        except self.libvirt.libvirtError as error:
            raise CloudError(f"libvirt at {uri}: {error.get_error_message() or error}") from error
        except TimeoutError as error:
            raise CloudError(f"libvirt at {uri} has not answered for {CALL_TIMEOUT_S:.0f} s") from error

    async def _connection(self, uri: str) -> Any:
        async with self._locks[uri]:
            held = self._open.get(uri)
            if held is None or not await asyncio.to_thread(self._answers, held):
                self._open.pop(uri, None)
                self._open[uri] = await asyncio.to_thread(self.libvirt.open, uri)
            return self._open[uri]

    def _answers(self, connection: Any) -> bool:
        try:
            connection.getLibVersion()
        except self.libvirt.libvirtError:
            return False
        return True

    async def close(self) -> None:
        while self._open:
            _, connection = self._open.popitem()
            await asyncio.to_thread(connection.close)
