"""Which Debian mirror this machine uses: read from apt's own source files, both formats (sources.list(5)).

The node image is of another suite than the host may be; only the mirror's address is taken over.
Errors: LookupError where no source names a Debian archive, with the files that were read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_ONE_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)$")


def archives(text: str) -> list[tuple[str, str]]:
    """(address, suite) of every binary source in one file, in its order."""
    found: list[tuple[str, str]] = []
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if match := _ONE_LINE.match(line.strip()):
                found.append((match[1], match[2]))
            elif ":" in line and not line[0].isspace():
                key, _, value = line.partition(":")
                fields[key.strip().lower()] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes") != "no":
            found += [(uri, suite) for uri in fields.get("uris", "").split() for suite in fields["suites"].split()]
    return found


def pick(found: Iterable[tuple[str, str]]) -> str | None:
    """The first archive of a plain Debian suite: not security, updates or backports, and not another vendor's."""
    for address, suite in found:
        plain = suite in _DEBIAN_SUITES
        if plain and "security" not in address:
            return address.rstrip("/")
    return None


_DEBIAN_SUITES = {"bullseye", "bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable", "oldstable"}


def debian_mirror(etc: Path = Path("/etc/apt")) -> str:
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    files = [file for file in files if file.suffix in (".list", ".sources") and file.is_file()]
    mirror = pick(entry for file in files for entry in archives(file.read_text()))
    if mirror is None:
        raise LookupError(
            f"no Debian archive among apt's sources ({', '.join(map(str, files)) or etc}): "
            "add one for your Debian release, so that the node image can be built from the same mirror"
        )
    return mirror
