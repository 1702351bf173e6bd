"""Two servers' answers to one case, and how they differ: as signs, so that one fault shows once, whatever kind it hits.

A sign is (what differs, where: a path without indices, how: both sides with names and numbers left out).
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from typing import Any

from orchestrator.client.client import Client
from tests.answers import answer_of, sent_by
from tests.exchange import NO_ANSWER, Case, perform

Sign = tuple[str, str, str]
CHECKS_MAX = 60  # of a shrink


@dataclass(frozen=True)
class Difference:
    """Found at the last step of `case`; `theirs` is what is right."""

    case: Case
    ours: dict[str, Any]
    theirs: dict[str, Any]
    signs: tuple[Sign, ...]


async def answers(client: Client, case: Case) -> list[dict[str, Any]]:
    sent = sent_by(case)
    return [json.loads(json.dumps(answer_of(*got, whole=True, sent=sent))) async for _, got in perform(client, case)]


async def compare(ours: Client, theirs: Client, case: Case) -> tuple[Difference | None, int]:
    """The first difference, and how many answers were the same: after a difference the servers hold other objects."""
    left, right = await answers(ours, case), await answers(theirs, case)
    for index, (mine, right_one) in enumerate(zip(left, right, strict=True)):
        if right_one["code"] == NO_ANSWER:  # kube-apiserver panics, and closes the connection
            return None, index
        if mine != right_one:
            cut = {**case, "steps": case["steps"][: index + 1]}
            return Difference(cut, mine, right_one, tuple(signs(mine, right_one))), index
    return None, len(left)


def signs(ours: dict[str, Any], theirs: dict[str, Any]) -> list[Sign]:
    if ours["code"] != theirs["code"]:
        return [("code", f"{ours['code']} for {theirs['code']}", f"{_gist(ours)} | {_gist(theirs)}")]
    found: list[Sign] = []
    for name in ("reason", "message", "warnings"):
        if ours.get(name) != theirs.get(name):
            found.append((name, "", f"{_general(ours.get(name))} | {_general(theirs.get(name))}"))
    mine, right = ([tuple(cause) for cause in answer.get("causes", ())] for answer in (ours, theirs))
    for title, causes in (("cause missing", set(right) - set(mine)), ("cause too many", set(mine) - set(right))):
        found += [(title, _pattern(field), f"{reason} {_general(message)}") for field, reason, message in causes]
    if "cause missing" in {sign[0] for sign in found}:
        found = [sign for sign in found if sign[0] != "message"] or found
    return found + _object_signs(ours.get("object"), theirs.get("object"), "")


def _object_signs(ours: Any, theirs: Any, path: str) -> list[Sign]:
    if ours == theirs:
        return []
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = []
        for key in sorted({*ours, *theirs}):
            inner = f"{path}.{key}"
            if key not in ours:
                found.append(("object lacks", _pattern(inner), _general(theirs[key])))
            elif key not in theirs:
                found.append(("object has too much", _pattern(inner), _general(ours[key])))
            else:
                found += _object_signs(ours[key], theirs[key], inner)
        return found
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            sign for one, other in zip(ours, theirs, strict=True) for sign in _object_signs(one, other, path + "[]")
        ]
    return [("object differs", _pattern(path), f"{_general(ours)} | {_general(theirs)}")]


def _gist(answer: dict[str, Any]) -> str:
    causes = sorted({f"{_pattern(field)} {_general(message)}" for field, _, message in answer.get("causes", ())})
    return "; ".join(causes[:2]) or _general(answer.get("message", ""))


def _pattern(path: str) -> str:
    return re.sub(r"\[[^\]]*\]", "[]", re.sub(r"^spec\.(jobTemplate\.spec\.)?template\.spec\.", "spec.", path))


def _general(value: Any) -> str:
    text = re.sub(r'"(\\.|[^"\\])*"', '""', value if isinstance(value, str) else json.dumps(value))
    return re.sub(r"\d+", "0", text)[:300]


# -- shrinking ---------------------------------------------------------------------------------------------------------


async def shrink(ours: Client, theirs: Client, found: Difference) -> Difference:
    """The same difference from less: steps and parts of bodies that do not matter are left out, within bounds."""
    checks = 0
    improved = True
    while improved and checks < CHECKS_MAX:
        improved = False
        for smaller in _smaller(found.case):
            if (checks := checks + 1) > CHECKS_MAX:
                break
            other, _ = await compare(ours, theirs, smaller)
            if other is not None and set(other.signs) & set(found.signs):
                found, improved = other, True
                break
    return found


def _smaller(case: Case) -> list[Case]:
    steps = case["steps"]
    found = [{**case, "steps": steps[:index] + steps[index + 1 :]} for index in range(len(steps) - 1)]
    for index, step in enumerate(steps):
        if isinstance(step.get("body"), dict | list):
            for body in sorted(_parts(step["body"]), key=lambda body: len(json.dumps(body))):
                found.append({**case, "steps": [*steps[:index], {**step, "body": body}, *steps[index + 1 :]]})
    return found


def _parts(body: Any) -> list[Any]:
    """The body less one branch each, the heaviest branches first."""
    found = []

    def walk(value: Any, trail: tuple[Any, ...]) -> None:
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            if key not in ("apiVersion", "kind", "name"):
                smaller = copy.deepcopy(body)
                holder = smaller
                for step in trail:
                    holder = holder[step]
                del holder[key]
                found.append(smaller)
            walk(value[key], (*trail, key))

    walk(body, ())
    return found
