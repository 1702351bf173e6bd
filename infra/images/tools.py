"""Programs of the node image for use on the host, where it has none or an older one: a wrapper script each.

A wrapper runs the image's program by the image's own loader and libraries, on the host's files and in its namespaces.
The tests that make networks use them, so that they meet the versions that nodes have.
"""

from __future__ import annotations

from pathlib import Path

PROGRAMS = ("ip", "nft", "conntrack", "ping", "bridge")

_WRAPPER = """\
#!/bin/sh
tree=$(dirname -- "$(readlink -f -- "$0")")/../tree
exec "$tree{loader}" --library-path "$tree{libraries}" "$tree{program}" "$@"
"""


def write(tree: Path, folder: Path) -> None:
    """`folder` is a sibling of `tree`: the scripts find it wherever both are."""
    (loader,) = (tree / "usr").glob("lib*/ld-linux-*.so.*")
    (libraries,) = (tree / "usr/lib").glob("*-linux-gnu")
    folder.mkdir()
    for name in PROGRAMS:
        program = next(place for place in ("usr/sbin", "usr/bin") if (tree / place / name).exists())
        script = folder / name
        parts = {"loader": loader, "libraries": libraries, "program": tree / program / name}
        script.write_text(_WRAPPER.format(**{key: f"/{path.relative_to(tree)}" for key, path in parts.items()}))
        script.chmod(0o755)
