"""The Pulumi CLI built from its Go module, as go.mod and go.sum beside this file pin it.

It is the way for machines that reach package registries and nothing else. Needs about 4.5 GB of disk while it runs
(modules and compiled packages, in <cache>/.pulumi-go, removed when it is done), 2 GB of memory and, on two cores,
seven minutes. An interrupted build goes on where it was: what Go has compiled stays until the build succeeds.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.images import cache
from infra.images.tree import Progress
from infra.toolchain import go
from infra.toolchain.errors import ToolchainError

FOLDER = Path(__file__).parent
MODULE = "github.com/pulumi/pulumi/pkg/v3"
PACKAGE = f"{MODULE}/cmd/pulumi"
VERSION_SYMBOL = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
DISK_BYTES = 4_500_000_000
SAY_EVERY_S = 20
KEPT_LINES = 30  # of the output, for the error


@dataclass(frozen=True)
class Source:
    """What is built: a folder with go.mod and go.sum, and a package that one of its modules has."""

    folder: Path = FOLDER
    module: str = MODULE
    package: str = PACKAGE
    version_symbol: str = VERSION_SYMBOL
    disk_bytes: int = DISK_BYTES

    @property
    def version(self) -> str:
        """As 3.274.1: what go.mod requires of the module."""
        found = re.search(rf"\b{re.escape(self.module)} v(\S+)", (self.folder / "go.mod").read_text())
        assert found is not None, f"{self.folder}/go.mod requires no {self.module}"
        return found.group(1)

    @property
    def go_version(self) -> str:
        found = re.search(r"^go (\S+)", (self.folder / "go.mod").read_text(), re.MULTILINE)
        assert found is not None, f"{self.folder}/go.mod names no Go version"
        return found.group(1)


PULUMI = Source()


def version() -> str:
    return PULUMI.version


def build(place: Path, say: Progress, source: Source = PULUMI) -> str:
    """Put the program into place/bin and say what it was built from. Raises ToolchainError."""
    scratch = cache.folder() / ".pulumi-go"
    scratch.mkdir(parents=True, exist_ok=True)
    check_disk(scratch, source.disk_bytes)
    compiler = go.find(source.go_version, scratch, say)
    origin = f"built from Go module {source.module} v{source.version} with go{compiler.version}"
    say(f"building Pulumi {source.version} from its Go module with go{compiler.version}; this takes minutes, once")
    run = _Runner(compiler, source.folder, scratch)
    say("downloading Go modules")
    fetched = _Progress("{} modules fetched", "go: downloading", say)
    packages = run("list", "-deps", "-f", "{{.ImportPath}}", source.package, each_line=fetched)
    compiled = _Progress(f"{{}} of {len(packages.split())} packages compiled", "", say)
    target = place / "bin" / source.package.rpartition("/")[2]
    flags = f"-s -w -X {source.version_symbol}=v{source.version}"
    run("build", "-v", "-trimpath", "-ldflags", flags, "-o", str(target), source.package, each_line=compiled)
    shutil.rmtree(scratch)
    return origin


def check_disk(place: Path, needed_bytes: int) -> None:
    """An interrupted build has part of it already, so what is there counts as free."""
    free = shutil.disk_usage(place).free
    if free >= needed_bytes:
        return
    have = sum(file.lstat().st_size for file in place.rglob("*") if not file.is_dir())
    if free + have < needed_bytes:
        raise ToolchainError(
            f"building the Pulumi CLI needs {needed_bytes / 1e9:.1f} GB at {place}, and {free / 1e9:.1f} GB are free",
            "free some space, or set XDG_CACHE_HOME to where there is more, or put Pulumi's own release on PATH",
        )


class _Progress:
    """Says now and then how many lines of a kind Go has written: modules it fetches, packages it has compiled."""

    def __init__(self, what: str, kind: str, say: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._kind, self._say, self._clock = what, kind, say, clock
        self._count = 0
        self._said = clock()

    def __call__(self, line: str) -> None:
        if not line.startswith(self._kind):
            return
        self._count += 1
        if (now := self._clock()) - self._said >= SAY_EVERY_S:
            self._said = now
            self._say(self._what.format(self._count))


class _Runner:
    def __init__(self, compiler: go.Go, folder: Path, scratch: Path) -> None:
        self._compiler, self._folder, self._scratch = compiler, folder, scratch
        # The user's own GOPROXY, GOSUMDB, GOPRIVATE … stay; caches and how modules are read are ours.
        self._environment = {
            **os.environ,
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
            "GOWORK": "off",
            "GOMODCACHE": str(scratch / "mod"),
            "GOCACHE": str(scratch / "build"),
            "GOTMPDIR": str(scratch),
            "CGO_ENABLED": "0",  # no C compiler needed, and a program that runs on any libc
        }

    def __call__(self, *arguments: str, each_line: Callable[[str], None]) -> str:
        """Run `go`; what it wrote to standard output. `each_line` gets the lines of its standard error."""
        command = [str(self._compiler.program), *arguments]
        last: deque[str] = deque(maxlen=KEPT_LINES)
        with (
            tempfile.TemporaryFile("w+", dir=self._scratch) as output,
            subprocess.Popen(
                command, cwd=self._folder, env=self._environment, stdout=output, stderr=subprocess.PIPE, text=True
            ) as process,
        ):
            assert process.stderr is not None
            try:
                for line in process.stderr:
                    last.append(line.rstrip())
                    each_line(line)
                process.wait()
            except BaseException:
                process.kill()
                raise
            if process.returncode != 0:
                raise failure(f"go {arguments[0]}", process.returncode, list(last), self._scratch)
            output.seek(0)
            return output.read()


def failure(step: str, code: int, output: Sequence[str], scratch: Path) -> ToolchainError:
    """What Go's words mean for the user. `output`: its last lines."""
    text = "\n".join(output)
    # Progress says nothing of the cause.
    told = [line for line in output if not line.startswith("go: downloading") and not _is_package(line)]
    cause = f"{step} failed (exit code {code}) while building the Pulumi CLI:\n" + "\n".join(told[-8:] or output[-3:])
    if "no space left on device" in text:
        return ToolchainError(cause, f"free some space at {scratch}, or set XDG_CACHE_HOME to where there is more")
    if "signal: killed" in text or code == -signal.SIGKILL:
        return ToolchainError(cause, "it was killed, probably for want of memory: it needs 2 GB; free some, then again")
    if any(sign in text for sign in ("dial tcp", "no such host", "connection refused", "i/o timeout", "proxyconnect")):
        return ToolchainError(
            cause,
            "make a Go module proxy reachable (GOPROXY, HTTPS_PROXY), or put Pulumi's own release on PATH",
        )
    if "checksum mismatch" in text or "SECURITY ERROR" in text:
        return ToolchainError(cause, "the proxy gave other code than go.sum pins: do not use it; set another GOPROXY")
    return ToolchainError(
        cause, "run the command again, or put Pulumi's own release on PATH (https://www.pulumi.com/docs/install/)"
    )


def _is_package(line: str) -> bool:
    return " " not in line and ":" not in line
