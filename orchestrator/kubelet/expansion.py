"""$(VAR) in commands, arguments and values of env. Pure.

`$(NAME)` becomes the variable's value; `$$(NAME)` stays as the text `$(NAME)`; a reference that is not known stays as
it is written. Source: API reference, Container.command; Kubernetes third_party/forked/golang/expansion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    def replaced(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return variables.get(match.group(1), match.group(0))

    return _REFERENCE.sub(replaced, text)


def missing(text: str, variables: Mapping[str, str]) -> list[str]:
    """The names that are referred to and not known."""
    names = (match.group(1) for match in _REFERENCE.finditer(text) if match.group(1) is not None)
    return [name for name in names if name not in variables]
