"""The components' Python dependencies for the node's own Python, from the same lock file that the host uses.

They go to /opt/sampan/lib and are compiled there once. What no component reads is dropped: kubernetes-validate carries
the schemas of 13 Kubernetes versions twice (100 MB), of which one is served.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

LIBRARY = "/opt/sampan/lib"  # in the tree
NODE_PYTHON = "3.13"
SCHEMAS = "kubernetes_validate/kubernetes-json-schema"
SCHEMA_KEPT = "v1.36.0-local"


def install(tree: Path, lock: Path) -> None:
    target = tree / LIBRARY.lstrip("/")
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-progress", "--require-hashes"),
            *("--python-version", NODE_PYTHON, "--python-platform", _platform(), "--only-binary", ":all:"),
            *("--link-mode", "copy", "--target", str(target), "--requirement", str(lock)),
        ],
        check=True,
        env=os.environ | index_settings(),
    )
    prune(target)
    # Byte code that names no file time stays right when times are set, and is the same in each build.
    compiling = ("-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", LIBRARY)
    subprocess.run(
        ["chroot", str(tree), "/usr/bin/python3", *compiling], check=False, env=os.environ | {"PYTHONHASHSEED": "0"}
    )


def prune(target: Path) -> None:
    for version in (target / SCHEMAS).iterdir():
        if version.name != SCHEMA_KEPT:
            shutil.rmtree(version)
    # The last is what cel-expr-python was built from, left in its wheel.
    for unused in (target / "uv", target / "bin", target / "bazel-project"):
        shutil.rmtree(unused, ignore_errors=True)
    for tests in target.rglob("tests"):
        if tests.is_dir():
            shutil.rmtree(tests, ignore_errors=True)


def index_settings() -> dict[str, str]:
    """pip's own index settings in the words of uv, which does not read pip's files."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    names = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "cert": "SSL_CERT_FILE"}
    names |= {"find-links": "UV_FIND_LINKS"}
    found: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        name = names.get(key.rpartition(".")[2])
        if name and name not in os.environ:
            found[name] = value.strip("'\"")
    return found


def _platform() -> str:
    return f"{os.uname().machine}-manylinux_2_40"
