"""Answers that a genuine kube-apiserver v1.36.3 gave, replayed: status, reason, message, causes, and whole objects."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api import meta
from orchestrator.api.kinds.registry import rules
from tests.answers import answer_of
from tests.unit.api.replay import Replay, locate

FILES = sorted((Path(__file__).parent / "cases").glob("*.json"))
ALL = [(file.stem, case) for file in FILES for case in json.loads(file.read_text())]
CASES = [(stem, case) for stem, case in ALL if "table" not in case and not case.get("server")]
TABLES = [case for _, case in ALL if "table" in case]
AGE = re.compile(r"\b(\d+[smhdy])+\b")


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{stem}: {case['name']}") for stem, case in CASES])
def test_answer(case: dict[str, Any]) -> None:
    server = Replay()
    for step in case["steps"]:
        code, body, warnings = server.send(step)
        if "answer" in step:
            assert answer_of(code, body, warnings, whole=case.get("whole", False)) == step["answer"]
        else:
            assert code < 400, body


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in TABLES])
def test_table_row(case: dict[str, Any]) -> None:
    """The cells that kubectl prints, but for ages, which depend on when they were recorded."""
    resource = locate(case["table"])[0]
    now = meta.parse_time(case["object"]["metadata"]["creationTimestamp"])
    cells = rules(resource).cells(case["object"], now)
    assert [_ageless(cell) for cell in cells] == [_ageless(cell) for cell in case["cells"]]


def _ageless(cell: Any) -> Any:
    return AGE.sub("<age>", cell) if isinstance(cell, str) else cell
