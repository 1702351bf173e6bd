"""Exec and attach: a process' streams joined with a caller's, and how it ended as a Status.

Ends when the process has ended and all its output is delivered, or when the caller hangs up. A caller that hangs up
takes its terminal along; a process that wants to live on must not read it.
Source: Kubernetes' remotecommand protocol (kubelet, `pkg/kubelet/cri/streaming/remotecommand`), v4 and v5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from msgspec import Struct

from orchestrator.api import status
from orchestrator.api.meta import Object
from orchestrator.kubelet.runtime.interface import RuntimeFailure
from orchestrator.kubelet.server.interface import Channels, Process

TRUE = ("1", "true", "True", "TRUE", "t", "T")


class Options(Struct, frozen=True):
    """Which streams the caller wants."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


def parse_options(query: Mapping[str, str]) -> Options:
    """From the kubelet's own parameter names; with a terminal there is no stderr. BadRequest without any stream."""
    asked = {name: query.get(name) in TRUE for name in ("input", "output", "error", "tty")}
    if not (asked["input"] or asked["output"] or asked["error"]):
        raise status.BadRequest("you must specify at least 1 of stdin, stdout, stderr")
    return Options(asked["input"], asked["output"], asked["error"] and not asked["tty"], asked["tty"])


async def join(channels: Channels, process: Process, options: Options) -> None:
    """Runs to the end; the process is closed in any case."""
    inputs = [asyncio.create_task(_follow_size(channels, process))] if options.tty else []
    if options.stdin:
        inputs.append(asyncio.create_task(_feed(channels, process)))
    output = asyncio.create_task(_deliver(channels, process))
    gone = asyncio.create_task(channels.gone())
    try:
        await asyncio.wait((output, gone), return_when=asyncio.FIRST_COMPLETED)
        if output.done() and output.exception() is None:
            await channels.finish(await _outcome(process))
    except ConnectionError:
        pass  # the caller has gone in this instant
    finally:
        for task in (*inputs, output, gone):
            task.cancel()
        await asyncio.gather(*inputs, output, gone, return_exceptions=True)
        await process.close()


async def _outcome(process: Process) -> Object:
    try:
        return exit_status(await process.exit_code())
    except RuntimeFailure as error:
        return failure_status(f"error executing command in container: {error}")


async def _feed(channels: Channels, process: Process) -> None:
    try:
        while data := await channels.read():
            await process.write(data)
        await process.end_input()
    except ConnectionError:
        pass  # the process reads no more; its output goes on


async def _follow_size(channels: Channels, process: Process) -> None:
    while (size := await channels.next_size()) is not None:
        await process.resize(size)


async def _deliver(channels: Channels, process: Process) -> None:
    async for output, data in process.output():
        await channels.write(output, data)


def exit_status(code: int) -> Object:
    """The Status of the error channel; clients take the exit code from its cause."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failure_status(message: str) -> Object:
    """It never ran."""
    return status.InternalError(f"Internal error occurred: {message}").to_status()


def choose(offered: Sequence[str], known: Sequence[str]) -> str | None:
    """The first protocol of ours that the caller offers."""
    return next((protocol for protocol in known if protocol in offered), None)
