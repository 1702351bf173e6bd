"""Expressions in the objects of admissionregistration: they must compile before they are kept.

Source: admissionregistration.k8s.io/v1 API reference, MatchCondition; messages of kube-apiserver.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.api.cel import objects, typecheck, types
from orchestrator.api.cel.engine import CompileError, compile_expression
from orchestrator.api.kinds import faults, formats
from orchestrator.api.status import Cause

MATCH_CONDITIONS_MAX = 64
_NO_VARIABLE = re.compile(
    r"(?P<at><input>:\d+:)(?P<column>\d+): undeclared reference to 'variables\.(?P<name>\w+)' \(in container ''\)"
    r"(?P<line>\n [|] [^\n]*\n [|] )(?P<dots>\.*)\^"
)
# What every expression about a request may name, each of any type.
BASE = {"object": "dyn", "oldObject": "dyn", "request": "dyn", "namespaceObject": "dyn", "authorizer": "dyn"}
# Of these it is known what they are, whatever is asked for.
KNOWN: dict[str, types.Type] = {"request": types.REQUEST, "namespaceObject": types.NAMESPACE}


def compiles(
    expression: str, names: Mapping[str, str], path: str, wanted: tuple[str, ...] = (), *, has_variables: bool = False
) -> list[Cause]:
    """`wanted`: types of result that are allowed, written as in messages; all are where there is none. `has_variables`:
    whether `variables` is something here, though it may not have the one that is named."""
    if not expression.strip():
        return [faults.required(path, f"{path.rpartition('.')[2]} is not specified")]
    try:
        program = compile_expression(objects.plain(expression), names)
    except CompileError as error:
        return [faults.invalid(path, expression, _about_variables(str(error), has_variables))]
    if issues := typecheck.issues(program.tree, KNOWN)[0]:
        return [faults.invalid(path, expression, f"compilation failed: {typecheck.told(expression, issues)}")]
    if wanted and program.type_text not in wanted:
        meant = wanted[0] if len(wanted) == 1 else f"one of [{' '.join(wanted)}]"
        return [faults.invalid(path, expression, f"must evaluate to {meant} but got {program.type_text}")]
    return []


def _about_variables(text: str, has_variables: bool) -> str:
    """Each variable is declared by its whole name; a name that is not is told as a field that is not there, or, where
    there are no variables at all, as that, at its place in the text."""
    if has_variables:
        return _NO_VARIABLE.sub(r"\g<at>\g<column>: undefined field '\g<name>'\g<line>\g<dots>^", text)

    def earlier(found: re.Match[str]) -> str:
        back = len("variables")
        column, dots = int(found["column"]) - back, found["dots"][back:]
        return f"{found['at']}{column}: undeclared reference to 'variables' (in container ''){found['line']}{dots}^"

    return _NO_VARIABLE.sub(earlier, text)


def match_conditions(conditions: list[Any], names: Mapping[str, str], path: str) -> list[Cause]:
    causes: list[Cause] = []
    if len(conditions) > MATCH_CONDITIONS_MAX:
        causes.append(faults.too_many(path, len(conditions), MATCH_CONDITIONS_MAX))
    seen: list[str] = []
    for index, condition in enumerate(conditions):
        at, name = f"{path}[{index}]", condition.get("name") or ""
        if expression := (condition.get("expression") or "").strip():
            causes += compiles(expression, names, f"{at}.expression", ("bool",))
        else:
            causes.append(faults.required(f"{at}.expression"))
        if not name:
            causes.append(faults.required(f"{at}.name"))
        else:
            causes += faults.each(f"{at}.name", name, formats.qualified_name(name))
            if name in seen:
                causes.append(faults.duplicate(f"{at}.name", name))
        seen.append(name)
    return causes
