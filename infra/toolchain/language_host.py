"""`pulumi-language-python`: what the Pulumi CLI asks how to run a project whose runtime is `python`.

The official one comes with Pulumi's release archive and is preferred; this one serves a CLI that was built from its
Go module, which brings no language host. It runs programs and installs their requirements. It generates no code: what
it does not implement answers UNIMPLEMENTED, as the engine expects of a host without that ability, and says what else
helps.
The interpreter is the one of the project's `virtualenv` option (relative to Pulumi.yaml), else the one that runs this.
Source: pulumi/sdk/proto/pulumi/language.proto; measured against CLI v3.274.1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2, json_format
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

from infra.toolchain import program
from infra.toolchain.plugin_process import end_with_parent, serve

CALLS_AT_ONCE = 8
LIST_PACKAGES = (
    "import importlib.metadata as m, json; "
    "print(json.dumps(sorted({d.metadata['Name']: d.version for d in m.distributions()}.items())))"
)


class NoInterpreter(LookupError):
    """The virtual environment that Pulumi.yaml names is not there."""


def interpreter(options: dict[str, Any], root: Path) -> str:
    """The Python that runs the project's program."""
    named = options.get("virtualenv")
    if not named:
        return sys.executable
    python = root / str(named) / "bin/python"
    if not os.access(python, os.X_OK):
        raise NoInterpreter(
            f"Pulumi.yaml: runtime.options.virtualenv is {named!r}, but there is no {python}: "
            "make it (python3 -m venv), or leave the option out to use Sampan's own"
        )
    return str(python)


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    def __init__(self, engine: str) -> None:
        self.engine = engine  # host:port
        self._running: set[subprocess.Popen[bytes]] = set()
        self._cancelled = False
        self._lock = threading.Lock()

    def Handshake(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.engine = request.engine_address or self.engine
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return plugin_pb2.PluginInfo(version=metadata.version("pulumi"))

    def About(self, request: Any, context: grpc.ServicerContext) -> Any:
        python = self._python(request.info, context)
        said = _output([python, "-c", "import platform; print(platform.python_version())"], context)
        return language_pb2.AboutResponse(
            executable=python, version=said.strip(), metadata={"host": "Sampan's language host"}
        )

    def GetRequiredPackages(self, request: Any, context: grpc.ServicerContext) -> Any:
        """None: the engine would try to download what is named here before it looks whether it is needed."""
        return language_pb2.GetRequiredPackagesResponse()

    def GetRequiredPlugins(self, request: Any, context: grpc.ServicerContext) -> Any:
        return language_pb2.GetRequiredPluginsResponse()

    def GetProgramDependencies(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The packages of the interpreter, whether the program imports them or not."""
        said = _output([self._python(request.info, context), "-c", LIST_PACKAGES], context)
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[language_pb2.DependencyInfo(name=name, version=version) for name, version in json.loads(said)]
        )

    def InstallDependencies(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        python = self._python(request.info, context)
        requirements = Path(request.directory, "requirements.txt")
        if not requirements.exists():
            yield language_pb2.InstallDependenciesResponse(stdout=f"{python} runs it; no requirements.txt\n".encode())
            return
        command = [python, "-m", "pip", "install", "--requirement", str(requirements)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as pip:
            assert pip.stdout is not None
            for line in pip.stdout:
                yield language_pb2.InstallDependenciesResponse(stdout=line)
        if pip.returncode != 0:
            context.abort(grpc.StatusCode.UNKNOWN, f"{' '.join(command)}: exit code {pip.returncode}")

    def GenerateProgram(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Asked by `pulumi import` after the import, and by `pulumi convert`."""
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "Sampan's language host writes no programs. What was imported is in the stack's state all the same: "
            "declare it in the program with the properties that `pulumi stack export` shows, and pass "
            "--generate-code=false to `pulumi import` from now on. Pulumi's own release has a host that writes them",
        )

    def GenerateProject(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._refuse("converts no projects (pulumi convert)", context)

    def GeneratePackage(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._refuse("generates no SDKs (pulumi package gen-sdk, package add)", context)

    def Pack(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._refuse("builds no SDKs (pulumi package)", context)

    def Link(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._refuse("links no local SDKs (pulumi package add)", context)

    def RunPlugin(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._refuse("runs no plugins that are written in Python", context)

    def _refuse(self, what: str, context: grpc.ServicerContext) -> None:
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Sampan's language host {what}: put Pulumi's own release, which has one that does, on PATH "
            "(https://www.pulumi.com/docs/install/)",
        )

    def Run(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.attach_debugger:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Sampan's language host starts no debugger")
        python = self._python(request.info, context)
        command = [python, "-P", "-u", program.__file__]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=request.pwd or None)
        with self._lock:
            self._running.add(child)
            cancelled = self._cancelled
        if cancelled:
            child.kill()
        try:
            child.communicate(json.dumps(asdict(self._request(request))).encode())
        except BrokenPipeError:  # it died before it had read; its exit code tells
            child.wait()
        finally:
            with self._lock:
                self._running.discard(child)
        if child.returncode == 0:
            return language_pb2.RunResponse()
        if child.returncode == program.FAILED_AND_SAID:
            return language_pb2.RunResponse(bail=True)
        ended = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        return language_pb2.RunResponse(error=f"the program {request.info.program_directory} ended with {ended}")

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.stop()
        return empty_pb2.Empty()

    def stop(self) -> None:
        """End the programs that run, and any that comes after."""
        with self._lock:
            self._cancelled = True
            running = tuple(self._running)
        for child in running:
            child.kill()

    def _request(self, request: Any) -> program.Request:
        entry = Path(request.info.program_directory, request.info.entry_point or ".")
        return program.Request(
            engine=self.engine,
            monitor=request.monitor_address,
            organization=request.organization,
            project=request.project,
            stack=request.stack,
            root_directory=request.info.root_directory,
            working_directory=request.pwd or request.info.program_directory,
            program=str(entry),
            parallel=request.parallel,
            dry_run=request.dryRun,
            arguments=list(request.args),
            config=dict(request.config),
            secret_keys=list(request.configSecretKeys),
        )

    def _python(self, info: Any, context: grpc.ServicerContext) -> str:
        try:
            return interpreter(json_format.MessageToDict(info.options), Path(info.root_directory))
        except NoInterpreter as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
            raise  # abort does not return; mypy does not know


def _output(command: list[str], context: grpc.ServicerContext) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        context.abort(grpc.StatusCode.UNKNOWN, f"{command[0]}: {done.stderr.strip()}")
    return done.stdout


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.exit("pulumi-language-python is started by the Pulumi CLI, with the engine's address as last argument")
    host = LanguageHost(arguments[-1])  # what comes before are options for logs and traces
    end_with_parent(host.stop)
    server = grpc.server(futures.ThreadPoolExecutor(CALLS_AT_ONCE), options=_GRPC_CHANNEL_OPTIONS)
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    serve(server)


if __name__ == "__main__":
    main(sys.argv[1:])
