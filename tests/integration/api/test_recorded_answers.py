"""The answers recorded of a genuine kube-apiserver, asked again of the whole server: TLS identity, admission, store.

The unit tests replay them through the rules alone; here nothing in between may change what a client is told.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.client.client import Client
from tests.answers import answer_of, sent_by
from tests.exchange import Case, perform, prepare
from tests.whole_server import whole_server

CASES = Path(__file__).parents[2] / "unit" / "api" / "cases"


async def told(client: Client, case: Case) -> list[tuple[Any, Any]]:
    """(answer, recorded answer) of a case's steps that differ."""
    differences = []
    async for step, got in perform(client, case):
        if "answer" in step:
            answer = json.loads(json.dumps(answer_of(*got, whole=case.get("whole", False), sent=sent_by(case))))
            if answer != step["answer"]:
                differences.append((answer, step["answer"]))
    return differences


async def test_the_whole_server_answers_as_recorded(tmp_path: Path) -> None:
    cases = [case for file in sorted(CASES.glob("*.json")) for case in json.loads(file.read_text())]
    different = {}
    async with whole_server(tmp_path) as server:
        client = Client.from_kubeconfig(server.kubeconfig("admin"))
        await prepare(client)
        for case in cases:
            if "table" not in case and (found := await told(client, case)):
                different[case["name"]] = found
        await client.close()
    assert different == {}
