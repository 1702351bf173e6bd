"""Compiling and evaluating CEL. The library is loaded with the first expression: most servers see none.

Errors: CompileError, whose text shows the place in the expression; EvaluationError for what went wrong with values.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from orchestrator.api.cel import library, syntax
from orchestrator.api.histogram import Histogram

KINDS = ("dyn", "string", "int", "bool", "double", "bytes", "timestamp", "duration")
TYPES = (*KINDS, "list", "map", "maps")  # that a variable may be declared with
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
COMPILATION_S, EVALUATION_S = Histogram(_BUCKETS_S), Histogram(_BUCKETS_S)  # of this process
TOO_DEAR = "operation cancelled: actual cost limit exceeded"
_ITERATIONS = "Iteration budget exceeded"
_STATUS = re.compile(r"^[A-Z_]+: ")
_TAIL = re.compile(r"\s*\[[A-Z_]+\]\s*$")
_OVERLOAD = re.compile(r"^No matching overloads found : ")
_FAULT = re.compile(r"ERROR: <input>:(?P<row>\d+):(?P<column>\d+): (?P<what>.*)\n \| (?P<line>.*)\n \| \.*\^\Z")
_UNDECLARED = re.compile(r"undeclared reference to '(?P<first>\w+\.[\w.]+)' ")
_MISSING_KEY = re.compile(r'^Key not found in map : "(.*)"$')


class CompileError(ValueError):
    """Not an expression, or one that does not fit its variables."""


class EvaluationError(ValueError):
    """An expression that has no value for these bindings."""


class Program:
    """A compiled expression; `eval` may be called any number of times."""

    def __init__(self, expression: str, compiled: Any) -> None:
        self.expression = expression
        self._compiled = compiled

    @property
    def result_type(self) -> str:
        """`bool`, `string`, `list`, `map`, `dyn`, … without what they are made of."""
        name: str = self._compiled.return_type().name()
        return name.lower().partition("(")[0].partition("<")[0]

    @property
    def type_text(self) -> str:
        """The type as messages write it: `bool`, `list(dyn)`, `null_type`, …"""
        name: str = self._compiled.return_type().name()
        text = name.lower().replace("<", "(").replace(">", ")")
        return "null_type" if text == "null" else text

    @cached_property
    def tree(self) -> syntax.Node:
        return syntax.parse(self._compiled.serialize())

    @cached_property
    def names(self) -> frozenset[str]:
        """Every identifier that the expression reads."""
        return frozenset(syntax.identifiers(self.tree))

    def eval(self, bindings: Mapping[str, Any]) -> Any:
        """The value as plain data. Errors: EvaluationError."""
        began = time.perf_counter()
        try:
            result = self._compiled.eval(data=dict(bindings))
        except RuntimeError as error:  # an evaluation that the library gives up
            raise EvaluationError(TOO_DEAR if _ITERATIONS in str(error) else _words(str(error))) from error
        finally:
            EVALUATION_S.observe(time.perf_counter() - began)
        if result.type().name() == "ERROR":
            raise EvaluationError(_words(str(result.plain_value())))
        return result.plain_value()


def _words(text: str) -> str:
    """An error in the words of cel-go, which people know from Kubernetes."""
    text = _TAIL.sub("", _STATUS.sub("", text))
    if found := _MISSING_KEY.match(text):
        return f"no such key: {found[1]}"
    if _OVERLOAD.match(text):
        return "no such overload"
    if found := re.match(r"^Index error: index=(-?\d+) size=\d+$", text):
        return f"index out of bounds: {found[1]}"
    return {"divide by zero": "division by zero", "modulus by zero": "modulus by zero"}.get(text, text)


@lru_cache(maxsize=64)
def _environment(variables: tuple[tuple[str, str], ...]) -> Any:
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_bindings, ext_encoders, ext_math, ext_optional

    types = {
        "dyn": cel.Type.DYN, "string": cel.Type.STRING, "int": cel.Type.INT, "bool": cel.Type.BOOL,
        "double": cel.Type.DOUBLE, "bytes": cel.Type.BYTES, "timestamp": cel.Type.TIMESTAMP,
        "duration": cel.Type.DURATION, "list": cel.Type.List(cel.Type.DYN),
        "map": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
        "maps": cel.Type.Map(cel.Type.STRING, cel.Type.Map(cel.Type.STRING, cel.Type.DYN)),
    }  # fmt: skip
    extensions = [
        ext_optional.ExtOptional(), ext_math.ExtMath(), ext_encoders.ExtEncoders(),
        ext_bindings.ExtBindings(),
    ]  # fmt: skip
    return cel.NewEnv(
        variables={name: types[kind] for name, kind in variables},
        extensions=extensions,
        functions=library.functions(cel),
    )


@lru_cache(maxsize=4096)
def _compiled(expression: str, variables: tuple[tuple[str, str], ...]) -> Program | CompileError:
    began = time.perf_counter()
    try:
        return Program(expression, _environment(variables).compile(expression))
    except RuntimeError as error:
        text = _TAIL.sub("", _STATUS.sub("", str(error).strip()))
        if not expression:  # there is no line to point into
            text = text.replace("<input>:1:1:", "<input>:1:0:").removesuffix("\n | \n | ^")
        return CompileError(f"compilation failed: {_located(text)}")
    finally:
        COMPILATION_S.observe(time.perf_counter() - began)


def _located(text: str) -> str:
    """The faults as cel-go tells them, in the order of their places: of a path that begins with a name that is none it
    knows the name alone, and of what is made of that it says nothing more."""
    told = []
    for block in re.split(r"\n(?=ERROR: )", text):
        found = _FAULT.match(block)
        if found is None or not found["line"].isascii():
            return text
        what, line, place = found["what"], found["line"], int(found["column"]) - 1
        if "'*error*'" in what:
            continue
        if (path := _UNDECLARED.match(what)) and not path["first"].startswith("variables."):
            first = path["first"].partition(".")[0]
            place = place - path["first"].rindex(".") if line[place] == "." else line.find(first, place)
            what = f"undeclared reference to '{first}' (in container '')"
        at = f"ERROR: <input>:{found['row']}:{place + 1}: {what}"
        told.append((int(found["row"]), place, f"{at}\n | {line}\n | {'.' * place}^"))
    return "\n".join(block for _, _, block in sorted(told))


def compile_expression(expression: str, variables: Mapping[str, str]) -> Program:
    """`variables` maps names to kinds: dyn, string, int, bool, list, map, … Errors: CompileError."""
    found = _compiled(expression, tuple(sorted(variables.items())))
    if isinstance(found, CompileError):
        raise CompileError(str(found))
    return found


def timestamp(moment: datetime) -> Any:
    """A time as a value within a map or a list."""
    from google.protobuf.timestamp_pb2 import Timestamp

    seconds = moment.timestamp()
    return Timestamp(seconds=int(seconds // 1), nanos=int(seconds % 1 * 1e9))


def duration(seconds: float) -> Any:
    from google.protobuf.duration_pb2 import Duration

    return Duration(seconds=int(seconds), nanos=int((seconds - int(seconds)) * 1e9))
