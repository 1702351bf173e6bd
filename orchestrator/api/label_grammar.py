"""The string grammar of label selectors: `app=web,tier!=db,env in (a, b),!legacy,size>3`.

A hand-written scanner and parser with one function for each rule of the grammar, since its errors say at which word
the reading stopped, and clients show them. `in` and `notin` are words like any other where a key or value may stand.
Source: apimachinery, labels.Parse; Concepts, "Labels and selectors".
"""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.api.kinds import faults, formats

_SYMBOLS = ("=", "==", "!=", "!", "(", ")", ",", ">", "<")
_KEYWORDS = ("in", "notin")
_BINARY = {"in": "In", "notin": "NotIn", "=": "In", "==": "In", "!=": "NotIn", ">": "Gt", "<": "Lt"}
_BLANKS = " \t\r\n"
_END = ""
_WORD = "word"


class SelectorError(ValueError):
    """A selector that cannot be parsed; the text is kube-apiserver's."""


class Term(NamedTuple):
    """One requirement; the operators are those of `selectors.Requirement`."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()


class _Token(NamedTuple):
    kind: str  # a symbol, a keyword, _WORD or _END
    text: str


def parse(text: str) -> list[Term]:
    return _Parser(_tokens(text)).selector()


def _tokens(text: str) -> list[_Token]:
    tokens, position = [], 0
    while position < len(text):
        if text[position] in _BLANKS:
            position += 1
            continue
        end = position
        if text[position] in "=!(),<>":
            while end < len(text) and text[position : end + 1] in _SYMBOLS:
                end += 1
            symbol = text[position:end]
            tokens.append(_Token(symbol, symbol))
        else:
            while end < len(text) and text[end] not in "=!(),<>" + _BLANKS:
                end += 1
            word = text[position:end]
            tokens.append(_Token(word if word in _KEYWORDS else _WORD, word))
        position = end
    return [*tokens, _Token(_END, "")]


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._position = 0

    def selector(self) -> list[Term]:
        terms: list[Term] = []
        while True:
            kind, text = self._next()
            if kind == _END:
                return terms
            if kind not in (_WORD, "!"):
                raise SelectorError(f"found '{text}', expected: !, identifier, or 'end of string'")
            try:
                terms.append(self._requirement())
            except SelectorError as error:
                raise SelectorError(f"unable to parse requirement: {error}") from error
            kind, text = self._take()
            if kind == _END:
                return terms
            if kind != ",":
                raise SelectorError(f"found '{text}', expected: ',' or 'end of string'")
            following = self._next()
            if following.kind not in (_WORD, "!"):
                raise SelectorError(f"found '{following.text}', expected: identifier after ','")

    def _requirement(self) -> Term:
        kind, key = self._take()
        is_absent = kind == "!"
        if is_absent:
            kind, key = self._take()
        if kind != _WORD:
            raise SelectorError(f"found '{key}', expected: identifier")
        _check("<nil>", key, formats.qualified_name(key))
        if is_absent:
            return Term(key, "DoesNotExist")
        if self._next().kind in (_END, ","):
            return Term(key, "Exists")
        kind, found = self._take(is_value=False)
        if kind not in _BINARY:
            raise SelectorError(f"found '{found}', expected: in, notin, =, ==, !=, gt, lt")
        values = self._values() if kind in _KEYWORDS else self._value()
        for index, value in enumerate(sorted(values)):
            if kind in "<>" and not value.lstrip("+-").isdecimal():
                detail = "for 'Gt', 'Lt' operators, the value must be an integer"
                raise SelectorError(_shown(f"values[{index}]", value, detail))
            _check(f"values[{index}][{key}]", value, formats.label_value(value))
        return Term(key, _BINARY[kind], values)

    def _value(self) -> frozenset[str]:
        """The one value of a comparison; none at all is the empty one."""
        if self._next().kind in (_END, ","):
            return frozenset(("",))
        kind, text = self._take()
        if kind != _WORD:
            raise SelectorError(f"found '{text}', expected: identifier")
        return frozenset((text,))

    def _values(self) -> frozenset[str]:
        kind, text = self._take()
        if kind != "(":
            raise SelectorError(f"found '{text}' expected: '('")
        kind, text = self._next()
        if kind == ")":
            self._take()
            return frozenset(("",))
        if kind not in (_WORD, ","):
            raise SelectorError(f"found '{text}', expected: ',', ')' or identifier")
        values = self._list()
        self._take()
        return frozenset(values)

    def _list(self) -> set[str]:
        """Values up to the closing bracket; what lacks around a comma is the empty value."""
        values: set[str] = set()
        while True:
            kind, text = self._take()
            following = self._next()
            if kind == _WORD:
                values.add(text)
                if following.kind == ")":
                    return values
                if following.kind != ",":
                    raise SelectorError(f"found '{following.text}', expected: ',' or ')'")
            elif kind == ",":
                if not values or following.kind in (")", ","):
                    values.add("")
                if following.kind == ")":
                    return values
            else:
                raise SelectorError(f"found '{text}', expected: ',', or identifier")

    def _next(self, is_value: bool = True) -> _Token:
        token = self._tokens[min(self._position, len(self._tokens) - 1)]
        return _Token(_WORD, token.text) if is_value and token.kind in _KEYWORDS else token

    def _take(self, is_value: bool = True) -> _Token:
        token = self._next(is_value)
        self._position += 1
        return token


def _check(path: str, value: str, complaints: list[str]) -> None:
    if complaints:
        raise SelectorError(_shown(path, value, "; ".join(complaints)))


def _shown(path: str, value: str, detail: str) -> str:
    return f"{path}: {faults.invalid(path, value, detail).message}"
