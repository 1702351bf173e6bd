"""Objects in the expressions of mutating policies: `Object{spec: Object.spec{replicas: 3}}` as the maps they stand for.

`plain` rewrites such literals, and `JSONPatch{op: "add", …}`, into CEL's own map literals; all else stays as it is,
character for character. Source: KEP-3962, "ApplyConfiguration" and "JSONPatch".
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""(?P<text>[rRbB]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"))"""
    r"""|(?P<literal>\b(?:Object|JSONPatch)(?:\s*\.\s*[A-Za-z_]\w*)*\s*\{)"""
    r"""|(?P<field>\??\s*[A-Za-z_]\w*\s*(?=:))|(?P<open>[({\[])|(?P<close>[)}\]])|(?P<rest>[A-Za-z_]\w*|.)""",
    re.DOTALL,
)


def plain(expression: str) -> str:
    """The expression without object literals."""
    if "Object" not in expression and "JSONPatch" not in expression:
        return expression
    made: list[str] = []
    within: list[bool] = []  # for each open bracket: is it an object literal?
    expects_field = False
    for found in _TOKEN.finditer(expression):
        token, kind = found[0], found.lastgroup
        if kind == "literal":
            made.append("{")
            within.append(True)
            expects_field = True
            continue
        if kind == "field" and expects_field:
            mark, name = ("?" if token.lstrip().startswith("?") else ""), token.strip().lstrip("?").strip()
            made.append(f'{mark}"{unescaped(name)}"')
            expects_field = False
            continue
        if kind == "open":
            within.append(False)
            expects_field = False
        elif kind == "close" and within:
            within.pop()
        elif token == ",":
            expects_field = bool(within) and within[-1]
        made.append(token)
    return "".join(made)


def unescaped(name: str) -> str:
    """The property that an escaped name stands for."""
    for text, char in (("__dot__", "."), ("__dash__", "-"), ("__slash__", "/"), ("__underscores__", "__")):
        name = name.replace(text, char)
    return name[2:-2] if name.startswith("__") and name.endswith("__") and len(name) > 4 else name
