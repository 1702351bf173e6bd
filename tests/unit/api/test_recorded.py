"""Answers that a genuine kube-apiserver v1.36.3 gave, replayed: status, reason, message, causes, and whole objects."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.api.replay import Replay, answer_of

FILES = sorted((Path(__file__).parent / "cases").glob("*.json"))
CASES = [(file.stem, case) for file in FILES for case in json.loads(file.read_text())]


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{stem}: {case['name']}") for stem, case in CASES])
def test_answer(case: dict[str, Any]) -> None:
    server = Replay()
    for step in case["steps"]:
        code, body, warnings = server.send(step)
        if "answer" in step:
            assert answer_of(code, body, warnings, whole=case.get("whole", False)) == step["answer"]
        else:
            assert code < 400, body
