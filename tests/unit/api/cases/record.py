"""Fills in the answers of the case files from a genuine kube-apiserver.

    python -m tests.unit.api.cases.record KUBECONFIG [FILE…]

`tests/exchange.py` says what a case is; its namespace is `case`. Each is cleared away afterwards. The answer of the
last step (of each step where "every" is true) is written beside it, as `answers.answer_of` reduces it. A case with
"table" (a path) records the object there and its cells in the table that kubectl prints. A case with "server" needs
more than rules (addresses, lists), and is asked of the whole server only.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from orchestrator.client.client import Client
from tests.answers import answer_of, sent_by
from tests.exchange import Case, ask, perform, prepare

HERE = Path(__file__).parent
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def stored(obj: dict[str, Any]) -> dict[str, Any]:
    obj["metadata"].pop("managedFields", None)
    return obj


async def record(client: Client, case: Case) -> None:
    async for step, answer in perform(client, case):
        step.pop("answer", None)
        is_last = step is case["steps"][-1]
        if "table" not in case and (is_last or case.get("every")):
            step["answer"] = answer_of(*answer, whole=case.get("whole", False), sent=sent_by(case))
        elif answer.code >= 400:
            raise SystemExit(f"{case['name']}: preparation failed: {answer.body}")
        if is_last and "table" in case:
            case["object"] = stored((await ask(client, {"method": "GET", "path": case["table"]})).body)
            table = await ask(client, {"method": "GET", "path": case["table"], "accept": TABLE})
            case["cells"] = table.body["rows"][0]["cells"]


async def main(kubeconfig: str, *names: str) -> None:
    client = Client.from_kubeconfig(kubeconfig)
    try:
        await prepare(client)
        for path in map(Path, names) if names else sorted(HERE.glob("*.json")):
            cases = json.loads(path.read_text())
            for case in cases:
                await record(client, case)
            path.write_text(json.dumps(cases, indent=1) + "\n")
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
