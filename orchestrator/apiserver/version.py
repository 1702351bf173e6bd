"""/version: what clients read to know which API they speak to.

The version is Kubernetes' (clients compare it with theirs); the build part says that it is served by Sampan.
Source: apimachinery version.Info; semver 2.0, build metadata.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator

import orjson

from orchestrator.api.wire import Request, Response
from orchestrator.apiserver.asked import JSON_HEADERS
from orchestrator.apiserver.encoding import JSON
from orchestrator.apiserver.metrics import family
from orchestrator.apiserver.negotiation import check_route

KUBERNETES = "1.36"
GIT_VERSION = f"v{KUBERNETES}.0+sampan"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def info() -> dict[str, str]:
    major, minor = KUBERNETES.split(".")
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": minor,
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "compiler": platform.python_implementation().lower(),
        "platform": f"linux/{_ARCHITECTURES.get(platform.machine(), platform.machine())}",
    }


def build_info() -> Iterator[str]:
    """The metric that says what runs."""
    found = info()
    names = {"build_date": "buildDate", "git_commit": "gitCommit", "git_tree_state": "gitTreeState"}
    names |= {"git_version": "gitVersion", "go_version": "goVersion"}
    names |= {name: name for name in ("compiler", "major", "minor", "platform")}
    labels = ",".join(f'{label}="{found[name]}"' for label, name in sorted(names.items()))
    return family("kubernetes_build_info", "gauge", "What this server was built from; always 1.", [(labels, 1)])


async def version(request: Request) -> Response:
    check_route(request.headers.get("accept", ""), (JSON,))
    return Response(200, dict(JSON_HEADERS), orjson.dumps(info()))
