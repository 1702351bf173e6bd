"""Static tokens: a CSV file, one `token,user,uid,"group1,group2"` a line, read once at start.

Errors: ValueError names the line that cannot be used. Source: Kubernetes docs, Authenticating, "Static token file".
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from orchestrator.api.wire import Identity


class TokenFile:
    """Tokens are kept as digests: a lookup by digest takes the same time whatever the guess."""

    def __init__(self, identities: dict[str, Identity]) -> None:
        self._by_digest = {_digest(token): identity for token, identity in identities.items()}

    @classmethod
    def read(cls, path: str | Path) -> TokenFile:
        return cls(parse(Path(path).read_text(), str(path)))

    def identity(self, token: str) -> Identity | None:
        return self._by_digest.get(_digest(token))


def parse(text: str, source: str) -> dict[str, Identity]:
    found: dict[str, Identity] = {}
    for number, row in enumerate(csv.reader(text.splitlines(), skipinitialspace=True), start=1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) < 3 or not row[0]:
            raise ValueError(f"{source}: line {number}: expected token,user,uid and optionally groups")
        groups = tuple(group.strip() for group in row[3].split(",") if group.strip()) if len(row) > 3 else ()
        found[row[0]] = Identity(row[1], groups, row[2])
    return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
