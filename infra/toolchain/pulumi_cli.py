"""Which Pulumi CLI is used: the one on PATH if it is new enough, else one of ours from the cache, made once a machine.

Ours is fetched by Pulumi's own installer where that host can be reached (half a minute), else built from its Go module
(seven minutes on two cores). Either is the version that go.mod names, in <cache>/pulumi-<version>/, with a line in
`origin` that says where it came from.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.images import cache
from infra.images.tree import Progress
from infra.toolchain import cli_build, installer
from infra.toolchain.errors import ToolchainError

OLDEST = (3, 272, 0)  # the SDK's own version: an older engine lacks what the SDK may ask of it
VERSION_TIMEOUT_S = 60  # the first start of a big program from a cold disk


@dataclass(frozen=True)
class Cli:
    pulumi: Path
    version: str  # as 3.274.1
    origin: str  # words for the user


def find(say: Progress, environment: Mapping[str, str]) -> Cli:
    """The CLI to use; brings it if this machine has none."""
    mine = on_path(environment.get("PATH", os.defpath), [cache.folder()])
    if mine is not None:
        version = version_of(mine)
        if version is not None and parse(version) >= OLDEST:
            return Cli(mine, version, "on PATH")
        say(f"{mine} is Pulumi {version or 'of no known version'}, older than {dotted(OLDEST)}; using Sampan's own")
    return own(say)


def own(say: Progress) -> Cli:
    version = cli_build.version()
    name = f"pulumi-{version}"
    entry = cache.folder() / name
    if not entry.exists():
        _announce_wait(say)
        entry = cache.once(name, lambda place: _make(place, version, say))
    return Cli(entry / "bin/pulumi", version, (entry / "origin").read_text().strip())


def on_path(path: str, excluded: Iterable[Path]) -> Path | None:
    """The first `pulumi` on PATH that is not one of ours; a shell that we set up has ours first."""
    for folder in filter(None, path.split(os.pathsep)):
        candidate = Path(folder, "pulumi")
        if not candidate.is_file() or not os.access(candidate, os.X_OK):
            continue
        places = (candidate.absolute(), candidate.resolve())
        if not any(place.is_relative_to(ours) for place in places for ours in excluded):
            return candidate.absolute()
    return None


def version_of(pulumi: Path) -> str | None:
    """As 3.274.1; None if the program does not run, or does not say (a build without its version says v0.0.0…)."""
    try:
        done = subprocess.run(
            [str(pulumi), "version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=VERSION_TIMEOUT_S,
            env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"v?(\d+\.\d+\.\d+)", done.stdout.strip())
    return found.group(1) if done.returncode == 0 and found else None


def parse(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def dotted(version: Iterable[int]) -> str:
    return ".".join(map(str, version))


def _make(place: Path, version: str, say: Progress) -> None:
    origin = installer.install(place, version, say) or cli_build.build(place, say)
    made = version_of(place / "bin/pulumi")
    if made != version:
        raise ToolchainError(
            f"the Pulumi CLI that was made ({origin}) says its version is {made}, not {version}",
            f"free what may be broken (rm -r {cache.folder()}/.pulumi-go) and run the command again",
        )
    (place / "origin").write_text(origin + "\n")


def _announce_wait(say: Progress) -> None:
    """cache.once waits in silence for another process that makes the same entry; seven minutes of that look broken."""
    cache.folder().mkdir(parents=True, exist_ok=True)
    with (cache.folder() / ".pulumi.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another command is making the Pulumi CLI just now; waiting for it")
