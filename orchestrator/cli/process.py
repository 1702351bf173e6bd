"""One component, or several, as one process: an event loop that runs until a signal asks it to stop.

SIGTERM and SIGINT cancel the work, which then ends gracefully. A component that fails ends the process with exit code
1, so that whoever supervises it starts it again; what it failed with is in the log.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import uvloop

from orchestrator.api import settings
from orchestrator.cli import importing

log = logging.getLogger("sampan")

# Name of the component, as users type it -> the module with its Config and run.
MODULES = {
    "api-server": "orchestrator.apiserver.main",
    "scheduler": "orchestrator.scheduler.main",
    "controller-manager": "orchestrator.controllers.main",
    "cloud-controller": "orchestrator.cloud.main",
    "kubelet": "orchestrator.kubelet.main",
    "porter": "orchestrator.porter.main",
    "proxy": "orchestrator.proxy.main",
    "dns": "orchestrator.dns.main",
}

TRANSPORT = "orchestrator.client.network"  # which a client imports when it first connects: by then slowly


def load(component: str, config: Path) -> tuple[ModuleType, Any]:
    """The component's module, imported only now that it is asked for, and its settings."""
    with importing.quickly():
        module = importlib.import_module(MODULES[component])
        importlib.import_module(TRANSPORT)
    return module, settings.load(config, module.Config)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Runs a component to its end. A write to a peer that has gone is an error of that write, and must not be the end
    of the process: whoever started it may have left SIGPIPE at its default, which is just that."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    uvloop.run(_until_stopped(work))


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    log.info("started", extra={"pid": os.getpid(), "python": sys.version.split()[0]})
    try:
        await task
    except asyncio.CancelledError:
        if not stopped:
            raise
        log.info("stopped")
    except settings.SettingsError:
        raise  # for whoever wrote them, not for who reads the code
    except BaseException:
        log.exception("failed")
        sys.exit(1)
