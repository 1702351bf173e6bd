"""Runs one Pulumi program in Python: the process that the language host starts for each preview or update.

Input, on standard input: one JSON object, the fields of Request. It does not come as arguments or in the environment,
because configuration has secrets in clear and both can be read by others or are inherited by what the program starts.
Exit code: 0, or FAILED_AND_SAID once the engine has been told why, or another if even that was not possible.
It is started by its path, not as a module of infra: a project may name a virtual environment of its own, which has
Pulumi's SDK and nothing of ours. Source: the language host's contract in pulumi/sdk/proto/pulumi/language.proto, Run.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import signal
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pulumi
import pulumi.runtime
from pulumi.runtime import Settings

FAILED_AND_SAID = 32
# The SDK's words for a call that came when the engine had given up, for a reason that it has told already.
ENGINE_GONE = "Resource monitor has terminated"


@dataclass(frozen=True)
class Request:
    engine: str  # host:port
    monitor: str  # host:port
    organization: str
    project: str
    stack: str
    root_directory: str  # where Pulumi.yaml is
    working_directory: str
    program: str  # a Python file, or a folder with __main__.py
    parallel: int
    dry_run: bool
    arguments: list[str] = field(default_factory=list)
    config: dict[str, str] = field(default_factory=dict)
    secret_keys: list[str] = field(default_factory=list)


def run(request: Request) -> int:
    pulumi.runtime.set_all_config(request.config, request.secret_keys)
    pulumi.runtime.configure(
        Settings(
            project=request.project,
            stack=request.stack,
            monitor=request.monitor,
            engine=request.engine,
            parallel=request.parallel,
            dry_run=request.dry_run,
            organization=request.organization,
            root_directory=request.root_directory,
        )
    )
    os.chdir(request.working_directory)
    program = Path(request.program)
    sys.argv = [str(program), *request.arguments]
    sys.path.insert(0, str(program if program.is_dir() else program.parent))
    # A failed resource leaves futures of the program that nobody awaits; asyncio would complain of each.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(lambda: _as_main(program)))
    except pulumi.RunError as error:
        if str(error).startswith(ENGINE_GONE):
            return FAILED_AND_SAID
        return _fail(str(error))
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            return FAILED_AND_SAID
        return _fail(f"{error.code().name}: {error.details()}")
    except Exception as error:
        return _fail("".join(traceback.format_exception(_from_program_on(error, Path(sys.path[0])))))
    finally:
        loop.close()
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _as_main(program: Path) -> None:
    runpy.run_path(str(program), run_name="__main__")


def _from_program_on(error: Exception, folder: Path) -> Exception:
    """The error with a traceback that begins in the program, without the frames of runpy and the SDK above it."""
    frame = error.__traceback__
    while frame is not None and not Path(frame.tb_frame.f_code.co_filename).is_relative_to(folder):
        frame = frame.tb_next
    return error.with_traceback(frame or error.__traceback__)


def _fail(message: str) -> int:
    try:
        pulumi.log.error(message)
    except Exception:
        print(message, file=sys.stderr)
        return 1
    return FAILED_AND_SAID


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the engine ends its process group so; no traceback for that
    request = Request(**json.load(sys.stdin))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.exit(run(request))


if __name__ == "__main__":
    main()
